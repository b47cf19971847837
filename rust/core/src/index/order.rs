//! Numbers kept in order: a list of short sorted runs.

/// A run is split when it is this long.
const FULL: usize = 1024;

/// A sorted multiset with selection by rank. Every operation takes some sqrt(n) steps of the cheapest kind: a search over
/// the runs, a move within one. No number in it is NaN.
#[derive(Debug, Default)]
pub(super) struct Ranked {
    runs: Vec<Vec<f64>>,
    len: usize,
}

impl Ranked {
    /// From numbers in any order, without NaN.
    pub(super) fn new(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let runs = values.chunks(FULL / 2).map(<[f64]>::to_vec).collect();
        Self { runs, len: values.len() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The run where `value` is or belongs.
    fn run(&self, value: f64) -> usize {
        self.runs
            .partition_point(|run| run.last().is_some_and(|last| last.total_cmp(&value).is_lt()))
    }

    pub(super) fn insert(&mut self, value: f64) {
        debug_assert!(!value.is_nan());
        let at = self.run(value).min(self.runs.len().saturating_sub(1));
        if self.runs.is_empty() {
            self.runs.push(Vec::with_capacity(FULL));
        }
        let run = &mut self.runs[at];
        let place = run.partition_point(|one| one.total_cmp(&value).is_lt());
        run.insert(place, value);
        self.len += 1;
        if run.len() >= FULL {
            let upper = run.split_off(FULL / 2);
            self.runs.insert(at + 1, upper);
        }
    }

    /// Takes one number equal to `value` out; false if there is none.
    pub(super) fn remove(&mut self, value: f64) -> bool {
        let at = self.run(value);
        let Some(run) = self.runs.get_mut(at) else { return false };
        let Ok(place) = run.binary_search_by(|one| one.total_cmp(&value)) else { return false };
        run.remove(place);
        self.len -= 1;
        if run.is_empty() {
            self.runs.remove(at);
        }
        true
    }

    /// The number at `rank`, counted from 0 at the smallest.
    pub(super) fn select(&self, mut rank: usize) -> f64 {
        for run in &self.runs {
            match run.get(rank) {
                Some(&value) => return value,
                None => rank -= run.len(),
            }
        }
        unreachable!("a rank below the length")
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.capacity() * size_of::<f64>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Ranked;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn ranks_are_those_of_a_sorted_list(
            start in prop::collection::vec(-5..5_i32, 0..4000),
            steps in prop::collection::vec((any::<bool>(), -6..6_i32), 0..3000),
        ) {
            let mut plain: Vec<f64> = start.iter().map(|&x| f64::from(x) / 2.0).collect();
            let mut ranked = Ranked::new(plain.clone());
            for (insert, value) in steps {
                let value = f64::from(value) / 2.0;
                if insert {
                    ranked.insert(value);
                    plain.push(value);
                } else {
                    let found = plain.iter().position(|&one| one == value);
                    prop_assert_eq!(ranked.remove(value), found.is_some());
                    found.map(|at| plain.swap_remove(at));
                }
            }
            plain.sort_unstable_by(f64::total_cmp);
            prop_assert_eq!(ranked.len(), plain.len());
            let got: Vec<f64> = (0..plain.len()).map(|rank| ranked.select(rank)).collect();
            prop_assert_eq!(got, plain);
        }
    }
}
