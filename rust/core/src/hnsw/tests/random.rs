//! What holds whatever is done, in whatever order and by however many.

use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::bits::Bits;
use crate::rng::Rng;

#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    Link(usize),
    Search(u64),
    Consolidate(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..60_u64).prop_map(Step::Push),
        4 => (0..50_usize).prop_map(Step::Link),
        2 => any::<u64>().prop_map(Step::Search),
        1 => (2..6_u64).prop_map(Step::Consolidate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_graph_is_sound_after_any_steps(
        steps in prop::collection::vec(step(), 1..25),
        m in 2..6_usize,
        quantization in prop_oneof![
            Just(Quantization::None), Just(Quantization::Int8), Just(Quantization::Binary)
        ],
        // few different rows make many twins
        kinds in prop_oneof![Just(1_u64), Just(7), Just(100_000)],
    ) {
        let metric = Metric::Euclidean;
        let params = Params { m, ef_construction: 12, metric, quantization, seed: 3 };
        let mut graph = Graph::new(5, params);
        let pool = Pool::new(2).unwrap();
        let never = AtomicBool::new(false);
        let (mut query, mut scratch) = (Prepared::default(), GraphScratch::default());
        let (mut found, mut next) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Push(count) => for _ in 0..count {
                    graph.push(&vector(5, next % kinds));
                    next += 1;
                },
                Step::Link(budget) => {
                    let waiting = graph.len() - graph.linked();
                    prop_assert_eq!(graph.link(budget, &pool, &never), budget.min(waiting));
                }
                Step::Search(number) => {
                    graph.prepare(&vector(5, number), &mut query);
                    graph.search(&query, 20, None, None, &mut scratch, &mut found);
                    prop_assert!(found.len() == graph.linked().min(20));
                }
                Step::Consolidate(share) => {
                    let live: Bits = (0..graph.len())
                        .map(|at| !Rng::new(next, 1).at(at as u64).is_multiple_of(share))
                        .collect();
                    graph = graph.consolidated(&live, &pool, &never).unwrap();
                    prop_assert_eq!(graph.len(), live.count());
                }
            }
            assert_sound(&graph);
        }
    }
}

#[test]
fn layers_thin_out_geometrically() {
    for m in [4, 16] {
        let params = Params { m, ..params(Metric::Cosine, Quantization::Int8) };
        let levels: Vec<u32> = (0..200_000).map(|node| params.level(node)).collect();
        let mut above = 200_000.0;
        for layer in 1..3 {
            let count = levels.iter().filter(|level| **level >= layer).count() as f64;
            above /= m as f64;
            assert!((count - above).abs() < 5.0 * above.sqrt(), "{m} {layer}: {count}, {above}");
        }
    }
}

#[test]
fn searches_go_on_while_rows_are_pushed_and_linked() {
    let graph = Graph::new(16, params(Metric::Cosine, Quantization::Int8));
    let (pool, done) = (Pool::new(2).unwrap(), AtomicBool::new(false));
    let searches = std::thread::scope(|scope| {
        let search = || {
            let (mut query, mut scratch) = (Prepared::default(), GraphScratch::default());
            let (mut found, mut count) = (Vec::new(), 0_u64);
            while !done.load(Ordering::Relaxed) {
                graph.prepare(&vector(16, count % 3000), &mut query);
                let linked = graph.linked();
                graph.search(&query, 20, None, None, &mut scratch, &mut found);
                assert!(found.len() >= linked.min(1) && found.len() <= 20);
                assert!(found.iter().all(|(node, _)| (node.0 as usize) < graph.len()));
                assert!(found.is_sorted_by(|a, b| a.1 <= b.1));
                count += 1;
            }
            count
        };
        let searching = [scope.spawn(search), scope.spawn(search)];
        scope.spawn(|| {
            for row in 0..3000 {
                graph.push(&vector(16, row));
            }
        });
        while graph.linked() < 3000 {
            graph.link(100, &pool, &AtomicBool::new(false));
        }
        done.store(true, Ordering::Relaxed);
        searching.map(|thread| thread.join().unwrap())
    });
    assert!(searches.iter().all(|count| *count > 0));
    assert_sound(&graph);
    let rows: Vec<_> = (0..3000).map(|row| vector(16, row)).collect();
    let queries: Vec<_> = (5000..5050).map(|row| vector(16, row)).collect();
    assert!(recall(&graph, &rows, &queries, 60) >= 0.97);
}

#[test]
fn linking_that_is_stopped_goes_on_later_as_if_it_had_not_been() {
    let rows: Vec<_> = (0..1200).map(|row| vector(16, row)).collect();
    let whole = built(params(Metric::Dot, Quantization::Int8), &rows, 2);
    let graph = Graph::new(16, params(Metric::Dot, Quantization::Int8));
    for row in &rows {
        graph.push(row);
    }
    let (pool, stop) = (Pool::new(1).unwrap(), AtomicBool::new(false));
    assert_eq!(graph.link(1, &pool, &AtomicBool::new(true)), 0);
    let linked = std::thread::scope(|scope| {
        scope.spawn(|| {
            while graph.linked() < 100 {
                std::hint::spin_loop();
            }
            stop.store(true, Ordering::Relaxed);
        });
        graph.link(usize::MAX, &pool, &stop)
    });
    assert_eq!(linked, graph.linked());
    assert!(linked < 1200, "it was to stop at some hundred");
    assert_eq!(graph.link(usize::MAX, &pool, &AtomicBool::new(false)), 1200 - linked);
    assert_eq!(lists(&graph), lists(&whole));
}
