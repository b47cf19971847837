//! Prioritized replay at a million items: drawing, updating, both. `cargo bench --bench replay`.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use precedent_core::replay::{Draws, PrioritizedReplay, ReplaySettings};
use precedent_core::rng::Rng;

fn main() {
    divan::main();
}

const ITEMS: usize = 1_000_000;
const BATCHES: [usize; 2] = [32, 1024];

fn errors(n: usize, stream: u64) -> Vec<f64> {
    let rng = Rng::new(7, stream);
    (0..n as u64).map(|i| rng.normal(i)).collect()
}

fn full() -> PrioritizedReplay {
    let mut replay = PrioritizedReplay::new(ReplaySettings::new(ITEMS)).expect("valid settings");
    let priorities: Vec<f64> = errors(ITEMS, 0).iter().map(|error| error.abs()).collect();
    replay.add(ITEMS, Some(&priorities)).expect("room for all");
    replay
}

#[divan::bench(args = BATCHES)]
fn sample(bencher: Bencher<'_, '_>, n: usize) {
    let (mut replay, mut draws) = (full(), Draws::default());
    bencher.counter(ItemsCount::new(n)).bench_local(|| {
        replay.sample(black_box(n), None, true, &mut draws).expect("items to draw");
    });
}

#[divan::bench(args = BATCHES)]
fn sample_without_replacement(bencher: Bencher<'_, '_>, n: usize) {
    let (mut replay, mut draws) = (full(), Draws::default());
    bencher.counter(ItemsCount::new(n)).bench_local(|| {
        replay.sample(black_box(n), None, false, &mut draws).expect("items to draw");
    });
}

#[divan::bench(args = BATCHES)]
fn update_anywhere(bencher: Bencher<'_, '_>, n: usize) {
    let (mut replay, rng, mut round) = (full(), Rng::new(3, 0), 0);
    let (news, mut indices) = (errors(n, 1), vec![0; n]);
    bencher.counter(ItemsCount::new(n)).bench_local(|| {
        round += 1;
        for (i, index) in (0..).zip(&mut indices) {
            *index = rng.child(round).below(i, ITEMS as u64) as i64;
        }
        replay.update(&indices, black_box(&news)).expect("items that are there");
    });
}

#[divan::bench(args = BATCHES)]
fn sample_and_update(bencher: Bencher<'_, '_>, n: usize) {
    let (mut replay, mut draws, news) = (full(), Draws::default(), errors(n, 1));
    bencher.counter(ItemsCount::new(n)).bench_local(|| {
        replay.sample(n, None, true, &mut draws).expect("items to draw");
        replay.update(&draws.indices, black_box(&news)).expect("items that are there");
    });
}
