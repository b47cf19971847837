//! The store, one method a method of the core.

use std::path::Path;
use std::sync::Arc;

use numpy::{PyArray1, PyArray2};
use precedent_core::ids::{RowKey, TrajectoryId};
use precedent_core::index::Scale;
use precedent_core::store::{
    CacheSettings, Durability, HnswSettings, Naming, Options, Prune, Query, Store as Core,
};
use precedent_core::{Error, Rows};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::vector;
use crate::layer::Layer;
use crate::quantizer::Quantizer;
use crate::raise::Raised;
use crate::records::Records;
use crate::search::{Found, Ids, Table};
use crate::settings::{at_least, get, optional_size};
use crate::training::interruptible;
use crate::{columns, filter, records, search};

type Result<T> = std::result::Result<T, Raised>;

/// One open file.
#[pyclass(frozen, module = "precedent._core")]
pub(crate) struct Store {
    pub(crate) core: Arc<Core>,
    durability: Durability,
}

impl Drop for Store {
    /// A store that nobody closed saves its index when it goes. Other threads need not wait for that.
    fn drop(&mut self) {
        if Arc::strong_count(&self.core) == 1 && !self.core.is_closed() {
            // Whoever wants to hear of a failure calls `close`.
            let _ = Python::attach(|py| py.detach(|| self.core.close()));
        }
    }
}

#[pymethods]
impl Store {
    #[new]
    #[pyo3(signature = (path, *, dimension, action_dimension, storage, durability, read_only, hnsw, cache, encoder))]
    #[expect(clippy::too_many_arguments, reason = "the settings of the Python class, one by one")]
    fn new(
        py: Python<'_>,
        path: &str,
        dimension: Option<usize>,
        action_dimension: Option<usize>,
        storage: Option<&str>,
        durability: &str,
        read_only: bool,
        hnsw: &Bound<'_, PyDict>,
        cache: (bool, usize, i64),
        encoder: Option<String>,
    ) -> Result<Self> {
        let durability: Durability = durability.parse()?;
        let options = Options {
            dimension,
            action_dimension,
            storage: storage.map(str::parse).transpose()?,
            durability,
            read_only,
            hnsw: hnsw_settings(hnsw)?,
            cache: CacheSettings { enabled: cache.0, max_size: cache.1, ttl_ms: cache.2 },
            encoder,
            ..Options::default()
        };
        let core = py.detach(|| Core::open(Path::new(path), options))?;
        Ok(Self { core: Arc::new(core), durability })
    }

    #[getter]
    fn path(&self) -> String {
        self.core.path().to_string_lossy().into_owned()
    }

    #[getter]
    fn dimension(&self) -> usize {
        self.core.dimension()
    }

    #[getter]
    fn action_dimension(&self) -> usize {
        self.core.action_dimension()
    }

    #[getter]
    fn storage(&self) -> &'static str {
        self.core.storage().name()
    }

    #[getter]
    fn durability(&self) -> &'static str {
        self.durability.name()
    }

    #[getter]
    fn read_only(&self) -> bool {
        self.core.read_only()
    }

    #[getter]
    fn encoder(&self) -> Option<String> {
        self.core.encoder().map(str::to_owned)
    }

    #[getter]
    fn closed(&self) -> bool {
        self.core.is_closed()
    }

    #[getter]
    fn quantizer(&self) -> Quantizer {
        Quantizer { core: Arc::clone(&self.core) }
    }

    /// What happened to the index that is worth a line in a log, since this was last asked.
    fn news(&self) -> Vec<String> {
        if self.core.has_news() { self.core.news() } else { Vec::new() }
    }

    #[getter]
    fn hnsw<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        let settings = self.core.hnsw();
        let mapping = PyDict::new(py);
        mapping.set_item("enabled", settings.enabled)?;
        mapping.set_item("m", settings.m)?;
        mapping.set_item("ef_construction", settings.ef_construction)?;
        mapping.set_item("ef_search", settings.ef_search)?;
        mapping.set_item("metric", settings.metric.name())?;
        mapping.set_item("quantization", settings.quantization.name())?;
        mapping.set_item("build_above", settings.build_above)?;
        Ok(mapping)
    }

    fn close(&self, py: Python<'_>) -> Result<()> {
        Ok(py.detach(|| self.core.close())?)
    }

    fn insert(
        &self,
        py: Python<'_>,
        columns: &Bound<'_, PyDict>,
        naming: &str,
    ) -> Result<Vec<String>> {
        let naming: Naming = match naming {
            "one" => Naming::One,
            "records" => Naming::Records,
            _ => Naming::Columns,
        };
        check_width(columns, "states", self.core.dimension())?;
        check_width(columns, "actions", self.core.action_dimension())?;
        let rows = columns::read(columns)?;
        let ids = match naming {
            Naming::One => py.detach(|| self.core.insert(&rows, naming))?,
            _ => interruptible(py, |poll| self.core.insert_many(&rows, naming, poll))?,
        };
        Ok(ids.iter().map(ToString::to_string).collect())
    }

    #[pyo3(signature = (query, k, metric, threshold, filter, exact, ef_search))]
    #[expect(clippy::too_many_arguments, reason = "the options of the Python method, one by one")]
    fn search<'py>(
        &self,
        py: Python<'py>,
        query: &Bound<'py, PyArray1<f32>>,
        k: i64,
        metric: Option<&str>,
        threshold: Option<f64>,
        filter: Option<&Bound<'py, PyDict>>,
        exact: bool,
        ef_search: Option<i64>,
    ) -> Result<Found<'py>> {
        let query = vector(query)?;
        let options = search::options(k, metric, threshold, filter, exact, ef_search)?;
        awaken(py, &self.core)?;
        let answer = py.detach(|| self.core.search(&Query { vector: query, options }))?;
        search::found(py, &self.core, &answer)
    }

    #[pyo3(signature = (queries, k, metric, threshold, filter, exact, ef_search))]
    #[expect(clippy::too_many_arguments, reason = "the options of the Python method, one by one")]
    fn search_many<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyArray2<f32>>,
        k: i64,
        metric: Option<&str>,
        threshold: Option<f64>,
        filter: Option<&Bound<'py, PyDict>>,
        exact: bool,
        ef_search: Option<i64>,
    ) -> Result<Vec<Found<'py>>> {
        let queries = search::queries(&self.core, queries)?;
        let options = search::options(k, metric, threshold, filter, exact, ef_search)?;
        let answers = interruptible(py, |poll| self.core.search_many(&queries, &options, poll))?;
        answers.iter().map(|answer| search::found(py, &self.core, answer)).collect()
    }

    #[pyo3(signature = (queries, k, metric, threshold, filter, exact, ef_search))]
    #[expect(clippy::too_many_arguments, reason = "the options of the Python method, one by one")]
    fn search_ids<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyArray2<f32>>,
        k: i64,
        metric: Option<&str>,
        threshold: Option<f64>,
        filter: Option<&Bound<'py, PyDict>>,
        exact: bool,
        ef_search: Option<i64>,
    ) -> Result<Ids<'py>> {
        let queries = search::queries(&self.core, queries)?;
        let options = search::options(k, metric, threshold, filter, exact, ef_search)?;
        let table = interruptible(py, |poll| {
            let table = Table::new(queries.len() / self.core.dimension(), options.k)?;
            let found = self.core.search_ids(&queries, &options, poll)?;
            Ok(table.fill(&found, |hit| (hit.key, hit.distance as f32)))
        })?;
        Ok(table.into_arrays(py)?)
    }

    #[pyo3(signature = (state, filter))]
    fn by_state<'py>(
        &self,
        py: Python<'py>,
        state: &Bound<'py, PyArray1<f32>>,
        filter: Option<&Bound<'py, PyDict>>,
    ) -> Result<Records<'py>> {
        let (state, filter) = (vector(state)?, filter::filter(filter)?);
        awaken(py, &self.core)?;
        let rows = py.detach(|| self.core.by_state(&state, &filter))?;
        self.records(py, &rows)
    }

    fn get<'py>(&self, py: Python<'py>, ids: Vec<String>) -> Result<Records<'py>> {
        let rows = py.detach(move || self.core.get(&parse_ids(&ids)?))?;
        self.records(py, &rows)
    }

    fn get_keys<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyArray1<i64>>,
    ) -> Result<Records<'py>> {
        let keys = row_keys(keys)?;
        let rows = py.detach(|| self.core.get_keys(&keys))?;
        self.records(py, &rows)
    }

    fn episode<'py>(
        &self,
        py: Python<'py>,
        name: &str,
    ) -> Result<(String, f64, bool, Option<String>, Records<'py>)> {
        let episode = py.detach(|| self.core.episode(name))?;
        let steps = self.records(py, &episode.rows)?;
        Ok((episode.name, episode.total_reward, episode.success, episode.metadata, steps))
    }

    #[pyo3(signature = (filter))]
    fn episode_names(
        &self,
        py: Python<'_>,
        filter: Option<&Bound<'_, PyDict>>,
    ) -> Result<Vec<String>> {
        let filter = filter::filter(filter)?;
        awaken(py, &self.core)?;
        Ok(py.detach(|| self.core.episode_names(&filter))?)
    }

    #[pyo3(signature = (name, success, metadata))]
    fn set_episode(
        &self,
        py: Python<'_>,
        name: &str,
        success: Option<bool>,
        metadata: Option<&str>,
    ) -> Result<()> {
        Ok(py.detach(|| self.core.set_episode(name, success, metadata))?)
    }

    fn delete(&self, py: Python<'_>, ids: Vec<String>) -> Result<usize> {
        Ok(py.detach(move || self.core.delete(&parse_ids(&ids)?))?)
    }

    #[pyo3(signature = (filter))]
    fn keys_matching<'py>(
        &self,
        py: Python<'py>,
        filter: Option<&Bound<'py, PyDict>>,
    ) -> Result<Bound<'py, PyArray1<i64>>> {
        let filter = filter::filter(filter)?;
        awaken(py, &self.core)?;
        let keys = py.detach(|| self.core.keys_matching(&filter))?;
        Ok(PyArray1::from_iter(py, keys.iter().map(|key| key.0)))
    }

    fn columns_of<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyArray1<i64>>,
    ) -> Result<Bound<'py, PyDict>> {
        let keys = row_keys(keys)?;
        let rows = py.detach(|| self.core.get_keys_present(&keys))?;
        Ok(columns::write(py, rows, self.core.dimension(), self.core.action_dimension())?)
    }

    #[pyo3(signature = (episode, gamma, tail))]
    fn compute_returns<'py>(
        &self,
        py: Python<'py>,
        episode: &str,
        gamma: f64,
        tail: Option<f64>,
    ) -> Result<Bound<'py, PyArray1<f64>>> {
        let returns = py.detach(|| self.core.compute_returns(episode, gamma, tail))?;
        Ok(PyArray1::from_vec(py, returns))
    }

    fn compute_all_returns(&self, py: Python<'_>, gamma: f64, missing_only: bool) -> Result<usize> {
        interruptible(py, |poll| self.core.compute_all_returns(gamma, missing_only, poll))
    }

    #[pyo3(signature = (keep_days, min_return, max_size, keep_successful, unit, dry_run))]
    #[expect(clippy::too_many_arguments, reason = "the options of the Python method, one by one")]
    fn prune(
        &self,
        py: Python<'_>,
        keep_days: Option<f64>,
        min_return: Option<f64>,
        max_size: Option<i64>,
        keep_successful: bool,
        unit: &str,
        dry_run: bool,
    ) -> Result<usize> {
        let max_size = max_size.map(|size| at_least("max_size", size, 0)).transpose()?;
        let prune = Prune {
            keep_days,
            min_return,
            max_size,
            keep_successful,
            unit: unit.parse()?,
            dry_run,
        };
        interruptible(py, |poll| self.core.prune(&prune, poll))
    }

    fn stats<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        let stats = py.detach(|| self.core.stats())?;
        let mapping = PyDict::new(py);
        mapping.set_item("total_trajectories", stats.total_trajectories)?;
        mapping.set_item("total_episodes", stats.total_episodes)?;
        mapping.set_item("avg_episode_length", stats.avg_episode_length)?;
        mapping.set_item("avg_reward", stats.avg_reward)?;
        mapping.set_item("avg_return", stats.avg_return)?;
        mapping.set_item("success_rate", stats.success_rate)?;
        let task_types = PyDict::new(py);
        for (name, count) in stats.task_types {
            task_types.set_item(name, count)?;
        }
        mapping.set_item("task_types", task_types)?;
        mapping.set_item("storage_size", stats.storage_size)?;
        mapping.set_item("index_size", stats.index_size)?;
        mapping.set_item("oldest_timestamp", stats.oldest_timestamp)?;
        mapping.set_item("newest_timestamp", stats.newest_timestamp)?;
        mapping.set_item("unindexed", stats.unindexed)?;
        mapping.set_item("index_state", stats.index_state)?;
        mapping.set_item("sidecar_size", stats.sidecar_size)?;
        mapping.set_item("cache_hits", stats.cache_hits)?;
        mapping.set_item("cache_misses", stats.cache_misses)?;
        Ok(mapping)
    }

    fn verify(&self, py: Python<'_>, deep: bool) -> Result<(bool, Vec<String>, u64, u64, f64)> {
        let report = interruptible(py, |poll| self.core.verify(deep, poll))?;
        Ok((
            report.problems.is_empty(),
            report.problems,
            report.rows as u64,
            report.checked as u64,
            report.seconds,
        ))
    }

    fn flush(&self, py: Python<'_>) -> Result<()> {
        interruptible(py, |poll| self.core.flush(poll))
    }

    fn rebuild_index(&self, py: Python<'_>) -> Result<()> {
        interruptible(py, |poll| self.core.rebuild_index(poll))
    }

    fn backup(&self, py: Python<'_>, path: &str) -> Result<()> {
        interruptible(py, |poll| self.core.backup(Path::new(path), poll))
    }

    #[pyo3(signature = (scale, qs, filter))]
    fn quantiles(
        &self,
        py: Python<'_>,
        scale: &str,
        qs: Vec<f64>,
        filter: Option<&Bound<'_, PyDict>>,
    ) -> Result<Vec<Option<f64>>> {
        let scale = if scale == "episode" { Scale::Episode } else { Scale::Return };
        let filter = filter::filter(filter)?;
        awaken(py, &self.core)?;
        Ok(py.detach(move || self.core.quantiles(scale, &qs, &filter))?)
    }

    fn save_model(&self, py: Python<'_>, name: &str, layer: &Layer) -> Result<i64> {
        let layer = layer.shared();
        Ok(py.detach(|| {
            let bytes = layer.read().expect("no holder of the layer panics").to_bytes()?;
            self.core.save_model(name, &bytes)
        })?)
    }

    fn load_model(&self, py: Python<'_>, name: &str) -> Result<Option<Layer>> {
        Ok(py.detach(|| match self.core.load_model(name)? {
            Some(bytes) => {
                precedent_core::nn::DecisionLayer::from_bytes(&bytes).map(|l| Some(l.into()))
            }
            None => Ok(None),
        })?)
    }
}

impl Store {
    fn records<'py>(&self, py: Python<'py>, rows: &Rows) -> Result<Records<'py>> {
        Ok(records::write(py, rows, self.core.dimension(), self.core.action_dimension())?)
    }
}

/// Lets Ctrl-C end what the first question to a store waits for. Every later one pays a look at a flag.
pub(crate) fn awaken(py: Python<'_>, core: &Core) -> Result<()> {
    if core.is_awake() { Ok(()) } else { interruptible(py, |poll| core.awaken(poll)) }
}

fn hnsw_settings(mapping: &Bound<'_, PyDict>) -> Result<HnswSettings> {
    let metric: Option<String> = get(mapping, "metric")?;
    let quantization: Option<String> = get(mapping, "quantization")?;
    Ok(HnswSettings {
        enabled: get(mapping, "enabled")?,
        m: optional_size(mapping, "m")?,
        ef_construction: optional_size(mapping, "ef_construction")?,
        ef_search: optional_size(mapping, "ef_search")?,
        metric: metric.as_deref().map(str::parse).transpose()?,
        quantization: quantization.as_deref().map(str::parse).transpose()?,
        build_above: optional_size(mapping, "build_above")?,
    })
}

/// A matrix is as wide as the store's vectors; once flattened, nobody could tell.
fn check_width(columns: &Bound<'_, PyDict>, name: &str, expected: usize) -> Result<()> {
    let got = columns::width(columns, name)?;
    if got == expected {
        return Ok(());
    }
    Err(Error::Dimension { field: name.to_owned(), expected, got }.into())
}

fn parse_ids(ids: &[String]) -> precedent_core::Result<Vec<TrajectoryId>> {
    ids.iter().map(|id| TrajectoryId::parse(id)).collect()
}

fn row_keys(keys: &Bound<'_, PyArray1<i64>>) -> PyResult<Vec<RowKey>> {
    Ok(vector(keys)?.into_iter().map(RowKey).collect())
}
