use std::sync::atomic::AtomicBool;

use super::super::scratch::Near;
use super::super::tests::{brute, built, params, vector};
use super::super::{GraphScratch, NodeId};
use super::*;
use crate::pool::Pool;
use crate::rng::Rng;

static GO_ON: AtomicBool = AtomicBool::new(false);

fn made(graph: &Graph, old: Option<&Cells>, threads: usize) -> Cells {
    Cells::of(graph, old, &Pool::new(threads).unwrap(), &GO_ON).unwrap()
}

/// The cluster of [`vector`].
fn cluster(number: u64) -> u64 {
    Rng::new(3, number).below(999, 20)
}

/// The candidates of one question, or why there are none.
fn ask(
    cells: &Cells,
    graph: &Graph,
    state: &[f32],
    ef: usize,
    admit: &Bits,
    or_walk: bool,
    scratch: &mut GraphScratch,
) -> Result<Vec<u32>, Told> {
    let (mut prepared, mut out) = (Prepared::default(), Vec::new());
    graph.prepare(state, &mut prepared);
    let arranged = cells.arrange(admit);
    let matches = admit.count();
    let arranged = &|| &arranged;
    let wanted = Wanted { state, k: 10, ef, admit, matches, arranged, or_walk };
    let found = cells.search(graph, &prepared, &wanted, scratch, &mut out);
    assert!(out.len() <= ef && out.is_sorted_by(|a, b| a.1 <= b.1));
    assert!(out.iter().all(|(node, _)| admit.get(node.0 as usize)));
    if found == Told::Found { Ok(out.iter().map(|(node, _)| node.0).collect()) } else { Err(found) }
}

/// The ten nearest matches as the codes have it.
fn by_codes(graph: &Graph, state: &[f32], admit: &Bits) -> Vec<u32> {
    let mut prepared = Prepared::default();
    graph.prepare(state, &mut prepared);
    let nodes: Vec<NodeId> = admit.iter().map(|at| NodeId(at as u32)).collect();
    let mut far = vec![0.0; nodes.len()];
    graph.estimate(&prepared, &nodes, &mut far);
    let mut all: Vec<(f32, u32)> = far.into_iter().zip(nodes.iter().map(|node| node.0)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.into_iter().take(10).map(|(_, node)| node).collect()
}

/// The share of the ten nearest matches among the candidates for queries whose own cluster is excluded.
fn recall(cells: &Cells, graph: &Graph, rows: &[Vec<f32>]) -> f64 {
    let (mut hits, mut wanted) = (0, 0);
    let mut scratch = GraphScratch::default();
    for number in 9000..9040 {
        let state = vector(rows[0].len(), number);
        let admit: Bits = (0..rows.len() as u64).map(|at| cluster(at) != cluster(number)).collect();
        let found = ask(cells, graph, &state, 50, &admit, false, &mut scratch).unwrap();
        let truth = match graph.params().quantization {
            // single bits tell such rows hardly apart, whoever asks them: what they say is to be found
            Quantization::Binary => by_codes(graph, &state, &admit),
            _ => brute(graph.params().metric, rows, &state, 10, |at| admit.get(at)),
        };
        hits += truth.iter().filter(|node| found.contains(node)).count();
        wanted += truth.len();
    }
    f64::from(hits as u32) / f64::from(wanted as u32)
}

#[test]
fn matches_away_from_the_query_are_found_for_every_metric_and_code() {
    for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
        for quantization in [Quantization::Int8, Quantization::None, Quantization::Binary] {
            let rows: Vec<_> = (0..3000).map(|row| vector(24, row)).collect();
            let graph = built(params(metric, quantization), &rows, 2);
            let share = recall(&made(&graph, None, 2), &graph, &rows);
            // 64 signs and the 256 of a sketch do not always agree which row is nearer
            let least = if quantization == Quantization::Binary { 0.9 } else { 0.95 };
            assert!(share >= least, "{metric:?} {quantization:?}: {share}");
        }
    }
}

#[test]
fn wide_states_are_found_by_a_part_of_their_projection() {
    let rows: Vec<_> = (0..3000).map(|row| vector(400, row)).collect();
    let graph = built(params(Metric::Cosine, Quantization::Int8), &rows, 2);
    let share = recall(&made(&graph, None, 2), &graph, &rows);
    assert!(share >= 0.95, "{share}");
}

#[test]
fn every_linked_row_is_in_one_cell_whatever_the_threads() {
    let rows: Vec<_> = (0..2000).map(|row| vector(24, row)).collect();
    let graph = built(params(Metric::Cosine, Quantization::Int8), &rows, 2);
    let (cells, again) = (made(&graph, None, 1), made(&graph, None, 3));
    assert_eq!(cells.members, again.members);
    assert_eq!(cells.times, again.times);
    assert_eq!((cells.rows(), cells.sizes.len()), (2000, centres(2000)));
    let mut members: Vec<u32> = cells.members.iter().copied().filter(|&at| at != NOBODY).collect();
    members.sort_unstable();
    assert_eq!(members, (0..2000).collect::<Vec<u32>>());
    for (span, &size) in cells.starts.windows(2).zip(&cells.sizes) {
        let cell = &cells.members[span[0] as usize..span[1] as usize];
        assert_eq!(cell.iter().filter(|&&row| row != NOBODY).count(), size as usize);
        assert!(cell.len().is_multiple_of(GROUP) && cell[..size as usize].is_sorted());
    }
}

#[test]
fn a_filter_is_arranged_as_its_rows_lie_in_cells() {
    let rows: Vec<_> = (0..1000).map(|row| vector(8, row)).collect();
    let graph = built(params(Metric::Dot, Quantization::Int8), &rows, 1);
    let cells = made(&graph, None, 1);
    // rows that came after the filter was asked are not in it
    let admit: Bits = (0..900).map(|at| at % 3 == 0).collect();
    let arranged = cells.arrange(&admit);
    assert_eq!(arranged.rows(), 1000);
    assert_eq!((arranged.counts.iter().sum::<u32>(), arranged.matches), (300, 300));
    for (cell, span) in cells.starts.windows(2).enumerate() {
        let bit = |at: &u32| arranged.group(*at as usize / GROUP * GROUP) >> (*at % 32) & 1 == 1;
        let matching = (span[0]..span[1]).filter(bit);
        let matching: Vec<u32> = matching.map(|at| cells.members[at as usize]).collect();
        assert_eq!(matching.len(), arranged.counts[cell] as usize);
        assert!(matching.iter().all(|row| row % 3 == 0 && *row < 900));
    }
}

#[test]
fn rows_linked_since_are_found_and_taken_in_without_moving_the_centres() {
    let rows: Vec<_> = (0..5000).map(|row| vector(24, row)).collect();
    let graph = built(params(Metric::Cosine, Quantization::Int8), &rows[..2000], 2);
    let pool = Pool::new(2).unwrap();
    let first = made(&graph, None, 2);
    let link = |rows: &[Vec<f32>]| {
        for row in rows {
            graph.push(row);
        }
        graph.link(usize::MAX, &pool, &GO_ON);
    };
    assert!(first.serve(graph.linked()) && !first.are_outgrown(graph.linked()));
    link(&rows[2000..2200]);
    assert!(first.serve(graph.linked()) && first.are_outgrown(graph.linked()));
    assert!(recall(&first, &graph, &rows[..2200]) >= 0.97);
    let second = made(&graph, Some(&first), 2);
    assert_eq!(second.rows(), 2200);
    assert_eq!(second.centres.halves, first.centres.halves);
    let whole = |cells: &Cells| cells.homes();
    assert_eq!(whole(&second)[..2000], whole(&first));
    assert!(recall(&second, &graph, &rows[..2200]) >= 0.97);
    link(&rows[2200..]);
    assert!(!second.serve(graph.linked()));
    let third = made(&graph, Some(&second), 2);
    assert_eq!((third.rows(), third.sizes.len()), (5000, centres(5000)));
    assert!(recall(&third, &graph, &rows) >= 0.95);
}

#[test]
fn a_question_with_matches_around_it_is_left_to_a_walk() {
    let rows: Vec<_> = (0..4000).map(|row| vector(24, row)).collect();
    let graph = built(params(Metric::Cosine, Quantization::Int8), &rows, 2);
    let (cells, mut scratch) = (made(&graph, None, 2), GraphScratch::default());
    let [mut near, mut far, mut any] = [0; 3];
    for number in 9000..9040 {
        let state = vector(24, number);
        let dot = |row: &[f32]| row.iter().zip(&state).map(|(a, b)| a * b).sum::<f32>();
        let [toward, away] = [1.0, -1.0]
            .map(|sign| -> Bits { rows.iter().map(|row| sign * dot(row) > 0.0).collect() });
        let random: Bits = (0..4000).map(|at| Rng::new(8, 8).uniform(at) < 0.3).collect();
        let mut left = |admit: &Bits| {
            let told = ask(&cells, &graph, &state, 50, admit, true, &mut scratch);
            usize::from(told == Err(Told::Around))
        };
        near += left(&toward);
        far += left(&away);
        any += left(&random);
    }
    assert!((near, far) == (40, 0) && any >= 36, "{near} {far} {any}");
}

#[test]
fn what_sketches_cannot_tell_apart_is_left_to_others() {
    let rows: Vec<_> = (0..4000).map(|row| vector(24, row)).collect();
    let graph = built(params(Metric::Cosine, Quantization::Int8), &rows, 2);
    let (cells, mut scratch) = (made(&graph, None, 2), GraphScratch::default());
    for number in 9000..9040 {
        let state = vector(24, number);
        let dot = |row: &[f32]| row.iter().zip(&state).map(|(a, b)| a * b).sum::<f32>();
        // the world is cut through where it is densest: very many are as near as the nearest
        let half: Bits = rows.iter().map(|row| dot(row) < 0.0).collect();
        let told = ask(&cells, &graph, &state, 20, &half, false, &mut scratch);
        assert_eq!(told, Err(Told::Unable));
    }
    assert!(!cells.can_tell(), "and they are asked no more");
}

#[test]
fn few_matches_or_none_are_all_found() {
    let rows: Vec<_> = (0..1000).map(|row| vector(24, row)).collect();
    let graph = built(params(Metric::Euclidean, Quantization::Int8), &rows, 2);
    let (cells, mut scratch) = (made(&graph, None, 2), GraphScratch::default());
    for few in [0, 1, 7, 49] {
        let admit: Bits = (0..1000).map(|at| at % 20 == 3 && at < 20 * few).collect();
        let mut found = ask(&cells, &graph, &rows[0], 50, &admit, false, &mut scratch).unwrap();
        found.sort_unstable();
        assert_eq!(found, (0..few).map(|at| 20 * at + 3).collect::<Vec<u32>>());
    }
}

#[test]
fn what_f32_cannot_hold_is_left_to_others() {
    let huge = |at: u64| -> Vec<f32> { vector(24, at).iter().map(|x| x * 1e25).collect() };
    let rows: Vec<_> = (0..500).map(huge).collect();
    let graph = built(params(Metric::Euclidean, Quantization::Int8), &rows, 2);
    let cells = made(&graph, None, 2);
    assert!(!cells.can_tell() && !cells.serve(500));
    // one row among others, and it is the nearest of all by its product
    let mut rows: Vec<_> = (0..600).map(|at| vector(24, at)).collect();
    rows[599] = huge(3).iter().map(|x| x * 1e12).collect();
    let graph = built(params(Metric::Dot, Quantization::Int8), &rows, 2);
    assert!(!made(&graph, None, 2).can_tell());
    // and a query that is too much for rows that are not
    let rows: Vec<_> = (0..500).map(|at| vector(24, at)).collect();
    let graph = built(params(Metric::Euclidean, Quantization::Int8), &rows, 2);
    let cells = made(&graph, None, 2);
    assert!(cells.can_tell());
    let (all, mut scratch): (Bits, _) = ((0..500).map(|_| true).collect(), GraphScratch::default());
    let told = ask(&cells, &graph, &huge(9), 50, &all, false, &mut scratch);
    assert_eq!(told, Err(Told::Unable));
}

#[test]
fn rows_without_differences_and_a_raised_stop_do_no_harm() {
    let rows = vec![vec![1.0, 2.0, 3.0]; 700];
    let graph = built(params(Metric::Cosine, Quantization::Int8), &rows, 2);
    let (cells, mut scratch) = (made(&graph, None, 2), GraphScratch::default());
    let odd: Bits = (0..700).map(|at| at % 2 == 1).collect();
    let found = ask(&cells, &graph, &[3.0, 1.0, 0.0], 50, &odd, false, &mut scratch);
    // of 350 that are all as near, any fifty
    assert_eq!(found.unwrap().len(), 50);
    let stop = AtomicBool::new(true);
    assert!(Cells::of(&graph, None, &Pool::new(2).unwrap(), &stop).is_none());
    let empty = Graph::new(3, params(Metric::Cosine, Quantization::Int8));
    assert_eq!(made(&empty, None, 1).rows(), 0);
}

#[test]
fn further_cells_are_worth_it_as_long_as_they_may_hold_what_is_nearer() {
    let rows: Vec<_> = (0..2000).map(|row| vector(24, row)).collect();
    let graph = built(params(Metric::Cosine, Quantization::Int8), &rows, 2);
    let mut cells = made(&graph, None, 2);
    cells.narrow.fill(1.0);
    let counts = vec![100_u32; cells.sizes.len()];
    // middles from 0.5 on, members spread by 0.1 around them, the k-th nearest at 0.4
    let all = || -> Vec<Near> { (0..60).map(|at| Near::new(0.5 + 0.01 * at as f32, at)).collect() };
    let worth = |missed: f64| cells.worth(&mut all(), 0.4, missed, (0.0, 0.1), &counts);
    // 100 of them at 3.5 standard deviations hold 0.02
    assert_eq!(worth(0.0), 60);
    assert!((24..36).contains(&worth(0.1)), "{}", worth(0.1));
    assert!(worth(1.0) < worth(0.1) && worth(1.0) > 10);
    assert_eq!(worth(1e9), 0);
    assert_eq!(cells.worth(&mut all(), f64::INFINITY, 0.1, (0.0, 0.1), &counts), 60);
    cells.narrow.fill(10.0);
    assert_eq!(cells.worth(&mut all(), 0.4, 0.1, (0.0, 0.1), &counts), 0, "narrow cells");
}
