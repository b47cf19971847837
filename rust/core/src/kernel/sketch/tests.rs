use super::*;
use crate::rng::Rng;

fn every_kernel() -> impl Iterator<Item = (Isa, Kernel)> {
    Isa::available().into_iter().filter_map(|isa| Some((isa, Kernel::of(isa)?)))
}

#[test]
fn sketches_cost_the_same_on_every_set() {
    let rng = Rng::new(13, 1);
    let sign = |row: usize, at: usize| match row {
        0 => true,
        1 => false,
        _ => rng.at((row * SKETCHED + at) as u64) & 1 == 1,
    };
    let mut rows = Sketches::default();
    for row in 0..GROUP {
        rows.set(row, (0..SKETCHED).map(|_| row % 2 == 0)); // replaced by
        rows.set(row, (0..SKETCHED).map(|at| sign(row, at)));
    }
    let mut query = SketchQuery::default();
    query.set(&[1e30; SKETCHED]);
    for scale in [1.0, 1e-30, 0.0, f32::MAX] {
        let vector: Vec<f32> = (0..SKETCHED as u64)
            .map(|i| scale * (rng.child(1).uniform(i) * 2.0 - 1.0) as f32)
            .collect();
        query.set(&vector);
        let numbers = vector.iter().map(|x| (x / query.step).round() as i32);
        assert!(numbers.clone().all(|x| x.abs() <= 7));
        let wanted: Vec<i32> = (0..GROUP)
            .map(|row| {
                let signed = numbers.clone().enumerate();
                signed.map(|(at, x)| if sign(row, at) { x } else { -x }).sum()
            })
            .collect();
        let (times, plus): ([f32; GROUP], [f32; GROUP]) =
            (std::array::from_fn(|at| at as f32 - 9.5), std::array::from_fn(|at| 0.1 * at as f32));
        for plus in [None, Some(&plus)] {
            let group = Group { rows: &rows, times: &times, plus, middle: 0.5 };
            let costs = wanted.iter().enumerate().map(|(at, sum)| {
                let cost = 0.5 + times[at] * (query.step * *sum as f32);
                plus.map_or(cost, |plus| cost + plus[at])
            });
            let costs: Vec<u32> = costs.map(f32::to_bits).collect();
            for bar in [f32::NAN, f32::INFINITY, f32::from_bits(costs[3])] {
                let below = costs
                    .iter()
                    .enumerate()
                    .map(|(at, cost)| u32::from(f32::from_bits(*cost) < bar) << at);
                let below: u32 = below.sum();
                for (isa, kernel) in every_kernel() {
                    let mut got = [f32::NAN; GROUP];
                    assert_eq!(kernel.estimate(&group, &query, bar, &mut got), below, "{isa:?}");
                    assert_eq!(got.map(f32::to_bits), costs[..], "{isa:?}");
                }
            }
        }
    }
    query.set(&[-2.0; SKETCHED]); // the greatest sums there are
    let times = [1.0 / query.step; GROUP];
    let group = Group { rows: &rows, times: &times, plus: None, middle: 0.0 };
    for (isa, kernel) in every_kernel() {
        let mut got = [0.0; GROUP];
        kernel.estimate(&group, &query, 0.0, &mut got);
        assert!((got[0] + 7.0 * 256.0).abs() < 0.1, "{isa:?}: {}", got[0]);
        assert!((got[1] - 7.0 * 256.0).abs() < 0.1, "{isa:?}: {}", got[1]);
    }
}
