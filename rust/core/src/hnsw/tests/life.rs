use super::*;
use crate::bits::Bits;

fn copied(graph: &Graph) -> Graph {
    let snapshot = graph.snapshot();
    let (mut rows, mut upper) = (Vec::new(), Vec::new());
    snapshot.write_rows(&mut rows).unwrap();
    snapshot.write_upper(&mut upper).unwrap();
    assert_eq!((rows.len(), upper.len()), snapshot.lengths());
    Graph::read(graph.dimension(), *graph.params(), &snapshot.head(), &rows, &upper).unwrap()
}

#[test]
fn one_thread_and_three_make_the_same_graph() {
    for (quantization, dimension) in [
        (Quantization::None, 16),
        (Quantization::Int8, 16),
        (Quantization::Int8, 256),
        (Quantization::Binary, 16),
    ] {
        let rows: Vec<_> = (0..1500).map(|row| vector(dimension, row)).collect();
        let params = params(Metric::Euclidean, quantization);
        let (one, three) = (built(params, &rows, 1), built(params, &rows, 3));
        assert_eq!(lists(&one), lists(&three));
        assert_eq!(one.entry(), three.entry());
        assert_eq!(one.glances.counts(), three.glances.counts());
        assert_eq!(one.glances.counts()[0] > 1000, dimension == 256, "rows were asked");
    }
}

#[test]
fn a_graph_without_its_dead_is_whole_and_finds_as_well() {
    let rows: Vec<_> = (0..2000).map(|row| vector(24, row)).collect();
    let queries: Vec<_> = (5000..5050).map(|row| vector(24, row)).collect();
    for (share, quantization) in [(5, Quantization::Int8), (2, Quantization::None)] {
        let graph = built(params(Metric::Cosine, quantization), &rows, 2);
        let lives = |at: usize| !Rng::new(9, 9).below(at as u64, share).is_multiple_of(share);
        let live: Bits = (0..2000).map(lives).collect();
        let pool = Pool::new(2).unwrap();
        let new = graph.consolidated(&live, &pool, &AtomicBool::new(false)).unwrap();
        let left: Vec<_> = live.iter().map(|at| rows[at].clone()).collect();
        assert_eq!((new.len(), new.linked()), (left.len(), left.len()));
        assert_sound(&new);
        let recall = recall(&new, &left, &queries, 60);
        assert!(recall >= 0.97, "one in {share} deleted: {recall}");
        let one = Pool::new(1).unwrap();
        let again = graph.consolidated(&live, &one, &AtomicBool::new(false)).unwrap();
        assert_eq!(lists(&new), lists(&again));
        assert!(graph.consolidated(&live, &one, &AtomicBool::new(true)).is_none());
        // and it goes on
        for row in 3000..3100 {
            new.push(&vector(24, row));
        }
        assert_eq!(new.link(1000, &pool, &AtomicBool::new(false)), 100);
        assert_sound(&new);
    }
}

#[test]
fn a_graph_comes_back_from_its_sections_as_it_was() {
    for quantization in [Quantization::None, Quantization::Int8, Quantization::Binary] {
        let rows: Vec<_> = (0..1000).map(|row| vector(70, row)).collect();
        let graph = built(params(Metric::Dot, quantization), &rows, 2);
        for row in 2000..2050 {
            graph.push(&vector(70, row));
        }
        let back = copied(&graph);
        assert_eq!((back.len(), back.linked(), back.bytes()), (1050, 1000, graph.bytes()));
        assert_eq!(lists(&back), lists(&graph));
        assert_eq!(back.glances.counts(), graph.glances.counts());
        assert_sound(&back);
        let pool = Pool::new(1).unwrap();
        for graph in [&graph, &back] {
            assert_eq!(graph.link(1000, &pool, &AtomicBool::new(false)), 50);
        }
        assert_eq!(lists(&back), lists(&graph));
    }
    let empty = Graph::new(5, params(Metric::Cosine, Quantization::Int8));
    assert!(copied(&empty).is_empty());
}

#[test]
fn rows_without_room_for_links_are_judged_alike_and_never_linked() {
    let rows: Vec<_> = (0..300).map(|row| vector(70, row)).collect();
    let made = params(Metric::Cosine, Quantization::Int8);
    let (roomy, bare) = (built(made, &rows, 1), Graph::unlinked(70, made));
    for row in &rows {
        bare.push(row);
    }
    let pool = Pool::new(1).unwrap();
    assert_eq!(bare.link(usize::MAX, &pool, &AtomicBool::new(false)), 0);
    assert_eq!((bare.linked(), bare.len()), (0, 300));
    // a line of facts and two of code, and a line of weights for eight rows
    assert_eq!((bare.bytes(), bare.emptied().bytes()), ((300 * 3 + 38) * 64, 0));
    assert!(bare.bytes() < roomy.bytes());
    let nodes: Vec<_> = (0..300).map(NodeId).collect();
    let bounds = |graph: &Graph| {
        let (mut query, mut bounds) = (Prepared::default(), [vec![0.0; 270], vec![0.0; 270]]);
        let [least, most] = &mut bounds;
        graph.prepare(&vector(70, 1000), &mut query);
        graph.judge(&query, &nodes, least, most); // the last thirty are fetched only
        bounds
    };
    assert_eq!(bounds(&roomy), bounds(&bare));
    let copy = roomy.emptied();
    copy.push_copy(&bare, NodeId(7));
    assert_eq!(copy.bytes(), roomy.rows.block_bytes() + Line::LEN + copy.upper.bytes());
}
