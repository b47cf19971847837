//! How large the optimizer's steps are over a run.

use super::settings::Schedule;

/// The step size of each step, as a share of the layer's learning rate. A function of the step's number alone, so that a
/// resumed run goes on where it stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) schedule: Schedule,
    /// W: steps on the way up.
    pub(super) warmup: u64,
    /// T: steps of the whole run, if nothing ends it early.
    pub(super) total: u64,
}

impl Rates {
    /// The share for step t = 0, 1, ... : (t + 1) / W while t < W; after that 1, or under `cosine`
    /// (1 + cos(pi (t - W) / (T - W))) / 2.
    pub(super) fn share(&self, step: u64) -> f64 {
        let Self { schedule, warmup, total } = *self;
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        match schedule {
            Schedule::Constant => 1.0,
            Schedule::Cosine => {
                let way = total.saturating_sub(warmup).max(1) as f64;
                let done = ((step - warmup) as f64 / way).min(1.0);
                0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(schedule: Schedule, warmup: u64, total: u64) -> Vec<f64> {
        let rates = Rates { schedule, warmup, total };
        (0..total).map(|step| rates.share(step)).collect()
    }

    fn close(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?}, not {want:?}");
    }

    #[test]
    fn a_constant_rate_is_full_from_the_end_of_the_warm_up_on() {
        close(&shares(Schedule::Constant, 0, 3), &[1.0, 1.0, 1.0]);
        close(&shares(Schedule::Constant, 4, 6), &[0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_cosine_falls_from_full_to_nothing_after_the_warm_up() {
        let root = std::f64::consts::FRAC_1_SQRT_2; // the cosine of an eighth turn
        let fall = [1.0, 0.5 + root / 2.0, 0.5, 0.5 - root / 2.0];
        close(&shares(Schedule::Cosine, 0, 4), &fall);
        close(&shares(Schedule::Cosine, 2, 6), &[&[0.5, 1.0][..], &fall].concat());
        let all = shares(Schedule::Cosine, 10, 1000);
        assert!(all[10..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!(all[999] > 0.0 && all[999] < 1e-5);
    }

    #[test]
    fn a_warm_up_as_long_as_the_run_never_reaches_the_cosine() {
        close(&shares(Schedule::Cosine, 4, 4), &[0.25, 0.5, 0.75, 1.0]);
        close(&shares(Schedule::Cosine, 8, 4), &[0.125, 0.25, 0.375, 0.5]);
        let past_the_end = Rates { schedule: Schedule::Cosine, warmup: 0, total: 4 };
        assert_eq!(past_the_end.share(9), 0.0);
    }
}
