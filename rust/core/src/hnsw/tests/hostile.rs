use super::*;
use crate::error::Error;

/// The sections of a snapshot.
struct Sections {
    head: Vec<u8>,
    rows: Vec<u8>,
    upper: Vec<u8>,
}

fn sections(graph: &Graph) -> Sections {
    let snapshot = graph.snapshot();
    let (mut rows, mut upper) = (Vec::new(), Vec::new());
    snapshot.write_rows(&mut rows).unwrap();
    snapshot.write_upper(&mut upper).unwrap();
    Sections { head: snapshot.head().to_vec(), rows, upper }
}

fn read(sections: &Sections) -> Result<Graph, Error> {
    let Sections { head, rows, upper } = sections;
    Graph::read(6, small(), head, rows, upper)
}

fn small() -> Params {
    let (metric, quantization) = (Metric::Euclidean, Quantization::Int8);
    Params { m: 4, ef_construction: 20, metric, quantization, seed: 1 }
}

fn graph() -> Graph {
    let rows: Vec<_> = (0..200).map(|row| vector(6, row)).collect();
    let graph = built(small(), &rows, 1);
    graph.push(&rows[0]);
    graph
}

/// Walks over what was read: whatever it is, they end.
fn walk(graph: &Graph) {
    assert_whole(graph);
    let (mut query, mut found) = (Prepared::default(), Vec::new());
    graph.prepare(&vector(6, 9), &mut query);
    graph.search(&query, 50, None, None, &mut GraphScratch::default(), &mut found);
    assert!(found.iter().all(|(node, _)| (node.0 as usize) < graph.linked()));
    let pool = Pool::new(1).unwrap();
    graph.link(usize::MAX, &pool, &AtomicBool::new(false));
}

#[test]
fn sections_of_another_length_are_refused() {
    let good = sections(&graph());
    assert!(read(&good).is_ok());
    for section in 0..3 {
        for change in 0..3 {
            let Sections { mut head, mut rows, mut upper } = sections(&graph());
            let bytes = match section {
                0 => &mut head,
                1 => &mut rows,
                _ => &mut upper,
            };
            match change {
                0 => bytes.push(0),
                1 => bytes.truncate(bytes.len() / 2),
                _ => bytes.clear(),
            }
            let bad = Sections { head, rows, upper };
            assert!(matches!(read(&bad), Err(Error::Corrupt { .. })), "{section} {change}");
        }
    }
    let head = [u32::MAX, 0, 0, 0, 0, 0, 0].map(u32::to_le_bytes).concat();
    assert_eq!(head.len(), good.head.len());
    let bad = Sections { head, rows: Vec::new(), upper: Vec::new() };
    assert!(read(&bad).is_err(), "more rows than bytes");
}

#[test]
fn hostile_words_are_refused_or_harmless() {
    let graph = graph();
    let block = graph.rows.block_bytes();
    // in a row: its first link, its last, its upper list, its layer, its children
    let words = graph.rows.words_each();
    let places = [0, 7, words - 3, words - 2, words - 1];
    for row in [0, 5, 199, 200] {
        for place in places {
            for value in [0, 1, 5, 199, 200, 201, 1 << 31, 1 << 31 | 5, u32::MAX - 1, u32::MAX] {
                let mut bad = sections(&graph);
                let at = row * block + 4 * place;
                bad.rows[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
                if let Ok(back) = read(&bad) {
                    walk(&back);
                }
            }
        }
    }
    for at in (0..sections(&graph).upper.len()).step_by(4) {
        for value in [0, 7, 200, 1 << 31] {
            let mut bad = sections(&graph);
            bad.upper[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
            if let Ok(back) = read(&bad) {
                walk(&back);
            }
        }
    }
    for at in 0..HEAD / 4 {
        for value in [0, 1, 100, 199, 201, 1 << 31, u32::MAX] {
            let mut bad = sections(&graph);
            bad.head[4 * at..4 * at + 4].copy_from_slice(&u32::to_le_bytes(value));
            if let Ok(back) = read(&bad) {
                walk(&back);
            }
        }
    }
}

#[test]
fn links_that_lead_nowhere_or_lose_a_row_are_refused() {
    let graph = graph();
    let block = graph.rows.block_bytes();
    let with = |row: usize, links: &[u32]| {
        let mut bad = sections(&graph);
        for place in 0..2 * graph.params().m {
            let link = links.get(place).copied().unwrap_or(NONE);
            let at = row * block + 4 * place;
            bad.rows[at..at + 4].copy_from_slice(&link.to_le_bytes());
        }
        read(&bad)
    };
    for (links, what) in [
        (&[][..], "no links"),
        (&[0, 1], "no parent"),
        (&[FIXED, FIXED | 1], "two parents"),
        (&[FIXED, 9], "itself"),
        (&[FIXED, 201], "a row that is not linked"),
        (&[FIXED + 199], "a child that knows another parent"),
    ] {
        assert!(matches!(with(9, links), Err(Error::Corrupt { .. })), "{what}");
    }
    assert!(with(200, &[1]).is_err(), "a row with links that is not linked");
}

#[test]
fn bytes_at_random_are_refused_or_harmless() {
    let graph = graph();
    let rng = Rng::new(6, 6);
    for round in 0..300 {
        let mut bad = sections(&graph);
        for change in 0..=round % 3 {
            let draw = rng.child(round).child(change);
            let section = match draw.below(0, 8) {
                0 => &mut bad.head,
                1 => &mut bad.upper,
                _ => &mut bad.rows,
            };
            let at = draw.below(1, section.len() as u64) as usize;
            section[at] = draw.at(2) as u8;
        }
        if let Ok(back) = read(&bad) {
            walk(&back);
        }
    }
}
