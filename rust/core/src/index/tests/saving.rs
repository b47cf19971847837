//! An index that is written to a file and read again, and files that are not what was written.

use std::path::Path;

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use crate::index::sidecar::{Copy, Header, Kind, PAGE, Sidecar, Unfit, Writer};
use crate::pool::Pool;
use crate::rng::Rng;

use super::*;

const WIDE: usize = 6;
const ROWS: i64 = 300;

fn state(number: i64) -> Vec<f32> {
    let own = Rng::new(8, number as u64);
    (0..WIDE as u64).map(|i| own.normal(i) as f32).collect()
}

fn made() -> Params {
    params(Metric::Cosine, Quantization::Int8)
}

/// An index with linked rows, a tail and some dead.
fn index() -> (Index, Shelf) {
    let (mut index, mut shelf) = filled_under(made(), ROWS, state);
    index.graph.link(ROWS as usize - 20, &Pool::new(1).unwrap(), &GO_ON);
    for number in (0..ROWS).step_by(11) {
        index.remove(&[entry(number).key]);
        shelf.states.remove(&entry(number).key);
    }
    (index, shelf)
}

fn save(index: &Index, shelf: &Shelf, path: &Path) -> Header {
    let mut writer = Writer::begin(path).unwrap();
    let outline = index.write_columns(&index.graph, &mut writer).unwrap();
    let linked = outline.write_graph(&mut writer).unwrap();
    let mut bytes = Vec::new();
    for key in &outline.keys {
        match shelf.states.get(key) {
            Some(state) => bytes.extend(state.iter().flat_map(|x| x.to_le_bytes())),
            None => bytes.extend([Copy::GONE; 4 * WIDE]),
        }
    }
    writer.chunked(Kind::States, 4 * WIDE as u32 * 8, |to| to.put(&bytes)).unwrap();
    let header = Header {
        dimension: WIDE as u32,
        width: 4,
        next_row: 3 * ROWS,
        rows: outline.keys.len() as u64,
        linked: linked as u64,
        ..Header::default()
    };
    drop(outline);
    writer.finish(path, &header).unwrap();
    header
}

fn load(path: &Path) -> Result<Index, Unfit> {
    let sidecar = Sidecar::open(path)?.expect("there is a file");
    Ok(Index::restore(sidecar, WIDE, made(), &GO_ON)?.expect("nothing stops it"))
}

/// A shelf from which nothing may be read.
struct Nothing;

impl Originals for Nothing {
    fn read(&mut self, keys: &[RowKey], _: &mut dyn FnMut(usize, &[f32])) -> crate::Result<()> {
        panic!("{} states were read from the database", keys.len())
    }
}

#[test]
fn an_index_comes_back_as_it_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let (index, mut shelf) = index();
    let header = save(&index, &shelf, &path);
    let mut again = load(&path).unwrap();
    assert_eq!(Sidecar::open(&path).unwrap().unwrap().header, header);
    assert_eq!((again.len(), again.graph.linked()), (index.len(), index.graph.linked()));
    assert_eq!(again.changed(), 0);
    let all = Resolved::default();
    assert_eq!(again.keys_matching(&all), index.keys_matching(&all));
    let mut scratch = Scratch::default();
    for number in 0..ROWS {
        let key = entry(number).key;
        assert_eq!(again.entry(key), index.entry(key));
        let query = state(-1 - number);
        for ef in [None, Some(20)] {
            let question = Question { ef, ..exactly(&query, Metric::Cosine, 5, &all) };
            let wanted = index.search(&question, &mut shelf, &mut scratch, &GO_ON).unwrap();
            let got = again.search(&question, &mut Nothing, &mut scratch, &GO_ON).unwrap();
            assert_eq!(got, wanted);
        }
    }
    let rich = Resolved { min_episode_reward: Some(5.0), ..all.clone() };
    assert_eq!(again.keys_matching(&rich), index.keys_matching(&rich));
    assert_eq!(again.by_state_hash(64, &all), index.by_state_hash(64, &all));
    again.append(&entry(ROWS), &state(ROWS));
    again.remove(&[entry(1).key]);
    assert_eq!((again.len(), again.changed()), (index.len(), 1));
    let left: Vec<_> = folder.path().read_dir().unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn states_that_the_copy_does_not_have_are_read_from_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let (index, mut shelf) = index();
    // a row that died while the copy was made, and one whose bytes were damaged afterwards
    let (gone, damaged) = (entry(7).key, entry(200).key);
    let state_gone = shelf.states.remove(&gone).unwrap();
    save(&index, &shelf, &path);
    shelf.states.insert(gone, state_gone);
    let mut bytes = std::fs::read(&path).unwrap();
    let needle: Vec<u8> = shelf.states[&damaged].iter().flat_map(|x| x.to_le_bytes()).collect();
    let at = bytes.windows(needle.len()).rposition(|window| window == needle).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let again = load(&path).unwrap();
    let (all, mut scratch) = (Resolved::default(), Scratch::default());
    for key in [gone, damaged] {
        shelf.read = 0;
        let query = shelf.states[&key].clone();
        let question = exactly(&query, Metric::Cosine, 1, &all);
        let hits = again.search(&question, &mut shelf, &mut scratch, &GO_ON).unwrap();
        assert_eq!((hits[0].key, hits[0].distance), (key, 0.0));
        assert!(shelf.read > 0, "the state of row {} was taken from the copy", key.0);
    }
}

#[test]
fn half_a_file_that_a_killed_process_left_is_swept_away_and_one_in_the_making_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    std::fs::write(folder.path().join(".index-abandoned"), "half").unwrap();
    let making = Writer::begin(&path).unwrap();
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    let (index, shelf) = index();
    save(&index, &shelf, &path);
    assert_eq!(folder.path().read_dir().unwrap().count(), 2, "the other's was taken away");
    drop(making);
    assert!(load(&path).is_ok());
}

#[test]
fn what_is_no_index_of_ours_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    assert!(Sidecar::open(&path).unwrap().is_none());
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        load(&path).expect_err("it was believed").to_string()
    };
    assert_eq!(refused(b""), "it is no index of ours");
    assert_eq!(refused(&[7; 2 * PAGE]), "it is no index of ours");
    assert_eq!(refused(b"PRCDindx"), "it is damaged: the header");
    let (index, shelf) = index();
    save(&index, &shelf, &path);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 1;
    assert_eq!(refused(&bytes), "it has version 1 of the format");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(load(&path).is_err());
}

/// Makes every checksum of a file fit again, so that a change gets past them.
fn reseal(bytes: &mut [u8]) {
    let number =
        |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let sections = u32::from_le_bytes(bytes[12..16].try_into().unwrap()).min(100) as usize;
    for line in (0..sections).map(|section| 176 + 32 * section) {
        let chunk = u32::from_le_bytes(bytes[line + 4..line + 8].try_into().unwrap()) as usize;
        let (offset, length) =
            (number(bytes, line + 8) as usize, number(bytes, line + 16) as usize);
        let Some(end) = offset.checked_add(length).filter(|end| *end <= bytes.len()) else {
            continue;
        };
        if chunk == 0 || length > 1 << 20 {
            continue;
        }
        let content = bytes[offset..end].to_vec();
        let sums: Vec<u8> = content.chunks(chunk).flat_map(|c| xxh3_64(c).to_le_bytes()).collect();
        let at = end.next_multiple_of(8);
        if let Some(place) = bytes.get_mut(at..at + sums.len()) {
            place.copy_from_slice(&sums);
        }
        bytes[line + 24..line + 32].copy_from_slice(&xxh3_64(&sums).to_le_bytes());
    }
    let sum = xxh3_64(&bytes[..PAGE - 8]);
    bytes[PAGE - 8..PAGE].copy_from_slice(&sum.to_le_bytes());
}

/// A saved file, made once.
fn saved() -> &'static [u8] {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let (index, shelf) = index();
        save(&index, &shelf, &path);
        std::fs::read(&path).unwrap()
    })
}

/// Asks an index everything that walks its links and columns.
fn ask_around(index: &Index) {
    let (_, mut shelf) = self::index();
    let (all, mut scratch) = (Resolved::default(), Scratch::default());
    for number in 0..20 {
        let query = state(-1 - number);
        for ef in [None, Some(10)] {
            let question = Question { ef, ..exactly(&query, Metric::Cosine, 5, &all) };
            // rows that the database does not have end a search with an error, and that is all
            let _ = index.search(&question, &mut shelf, &mut scratch, &GO_ON);
        }
    }
    let rich = Resolved { min_episode_reward: Some(1.0), success: Some(true), ..all };
    index.episodes_matching(&rich);
    index.by_state_hash(64, &rich);
    index.quantile(Scale::Episode, &rich, 0.5);
    index.quantile(Scale::Return, &rich, 0.5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_damaged_file_is_refused_or_the_damage_is_where_nothing_is_read(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 1..4),
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let mut bytes = saved().to_vec();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(again) = load(&path) {
            let (index, mut shelf) = index();
            let (all, mut scratch) = (Resolved::default(), Scratch::default());
            for number in 0..10 {
                let query = state(-1 - number);
                let question = exactly(&query, Metric::Cosine, 5, &all);
                let wanted = index.search(&question, &mut shelf, &mut scratch, &GO_ON).unwrap();
                let got = again.search(&question, &mut shelf, &mut scratch, &GO_ON).unwrap();
                prop_assert_eq!(got, wanted);
            }
        }
    }

    #[test]
    fn a_hostile_file_whose_checksums_fit_neither_crashes_nor_hangs(
        words in prop::collection::vec(
            (any::<prop::sample::Index>(), prop_oneof![any::<u32>(), 0..400_u32, Just(u32::MAX)]),
            1..6,
        ),
        header in any::<bool>(),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let mut bytes = saved().to_vec();
        for (at, word) in words {
            let end = if header { 176 + 32 * 16 } else { bytes.len() };
            let at = 12 + 4 * at.index((end - 16) / 4);
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        if let Some(cut) = cut {
            bytes.truncate(PAGE + cut.index(bytes.len() - PAGE));
        }
        reseal(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(index) = load(&path) {
            ask_around(&index);
        }
    }
}
