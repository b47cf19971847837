//! How cells are made: k-means (Lloyd 1982) over a sample of the rows, then every row into the cell of its nearest centre.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rayon::prelude::*;

use crate::kernel::distance::{Kernel, Line};
use crate::kernel::sketch::{self, GROUP, SKETCHED, Sketches};
use crate::metric::Metric;
use crate::pool::Pool;

use super::super::rotation::Rotation;
use super::super::{Graph, Prepared};
use super::{Cells, Centres, NOBODY, OUTGROWN, centres, project};

/// Rows that the centres are made of, for each of them.
const SAMPLED: usize = 64;

/// Items that the pool works at together.
const STROKE: usize = 1024;

/// The least reach that a cell is taken to have, beside that of all.
const LEAST: f64 = 0.25;

/// How often centres move to the middle of their rows. The second time halves the rows that a search looks at; further
/// ones change little.
const MOVES: usize = 2;

impl Cells {
    /// The linked rows of a graph in cells. The centres of `old`, cells of the same graph when it was smaller, are taken
    /// over unless they are outgrown. None if `stop` came first. The result depends on the graph and on `old` only.
    pub fn of(graph: &Graph, old: Option<&Self>, pool: &Pool, stop: &AtomicBool) -> Option<Self> {
        // as many components as a sketch has signs, or more
        let length = graph.dimension().max(SKETCHED).next_multiple_of(Line::LEN);
        let (rows, rotation) = (graph.linked(), Rotation::new(length, graph.params().seed));
        let making = Making { graph, rotation: &rotation, pool, stop };
        let old = old.filter(|old| old.rows() <= rows && rows <= OUTGROWN * old.made_of);
        let (centres, made_of, homes) = if let Some(old) = old {
            let mut homes = old.homes();
            let new: Vec<u32> = (old.rows() as u32..rows as u32).collect();
            homes.extend(making.homes(&new, &old.centres)?);
            (Arc::clone(&old.centres), old.made_of, homes)
        } else {
            let centres = making.centres(rows)?;
            let homes = making.homes(&(0..rows as u32).collect::<Vec<_>>(), &centres)?;
            (Arc::new(centres), rows, homes)
        };
        let Grouped { starts, sizes, members } = Grouped::of(&homes, centres.len());
        let outlines = making.outlines(&starts, &members, &centres)?;
        let narrow = narrow(&outlines, &sizes);
        let (mut sketches, mut times, mut plus) = (Vec::new(), Vec::new(), Vec::new());
        sketches.reserve_exact(members.len() / GROUP);
        times.reserve_exact(members.len());
        for outline in outlines {
            sketches.push(outline.sketches);
            times.extend(outline.times);
            if graph.params().metric == Metric::Euclidean {
                plus.extend(outline.plus);
            }
        }
        let squares = times.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        let finite = |numbers: &[f32]| numbers.iter().all(|x| x.is_finite());
        Some(Self {
            kernel: sketch::Kernel::best(),
            rows,
            made_of,
            blur: squares / rows.max(1) as f64,
            asked: AtomicU32::new(0),
            unable: AtomicU32::new(0),
            sound: [&times, &plus, &centres.halves, &narrow].iter().all(|numbers| finite(numbers)),
            centres,
            starts,
            sizes,
            narrow,
            members,
            sketches,
            times,
            plus,
            rotation,
        })
    }

    /// The cell of every row.
    pub(super) fn homes(&self) -> Vec<u32> {
        let mut homes = vec![0; self.rows];
        for (cell, span) in (0..).zip(self.starts.windows(2)) {
            let members = &self.members[span[0] as usize..span[1] as usize];
            let rows = members.iter().filter(|row| **row != NOBODY);
            rows.for_each(|&row| homes[row as usize] = cell);
        }
        homes
    }
}

/// Rows by cell.
struct Grouped {
    /// Where each cell begins, and where the last one ends.
    starts: Vec<u32>,
    sizes: Vec<u32>,
    /// The rows, filled up to whole groups.
    members: Vec<u32>,
}

impl Grouped {
    fn of(homes: &[u32], cells: usize) -> Self {
        let mut sizes = vec![0_u32; cells];
        for &cell in homes {
            sizes[cell as usize] += 1;
        }
        let mut starts = vec![0];
        for size in &sizes {
            starts.push(starts[starts.len() - 1] + size.next_multiple_of(GROUP as u32));
        }
        let mut members = vec![NOBODY; starts[cells] as usize];
        let mut next = starts.clone();
        for (row, &cell) in (0..).zip(homes) {
            members[next[cell as usize] as usize] = row;
            next[cell as usize] += 1;
        }
        Self { starts, sizes, members }
    }
}

/// What is kept of a group of members.
#[derive(Clone, Default)]
struct Outline {
    cell: usize,
    sketches: Sketches,
    times: [f32; GROUP],
    /// Zeros, but for Euclid.
    plus: [f32; GROUP],
    /// The sum of the squared lengths of what they add to the centre.
    squares: f64,
}

/// How much nearer the members of each cell are to its centre than those of all, by the root of the mean square. No cell
/// is taken for much narrower than others.
fn narrow(outlines: &[Outline], sizes: &[u32]) -> Vec<f32> {
    let mut squares = vec![0.0; sizes.len()];
    for outline in outlines {
        squares[outline.cell] += outline.squares;
    }
    let mean = |squares: f64, count: u32| squares / f64::from(count.max(1));
    let all = mean(squares.iter().sum(), sizes.iter().sum());
    let one = |(&squares, &size): (&f64, &u32)| match mean(squares, size) / all {
        ratio if all > 0.0 => 1.0 / ratio.sqrt().max(LEAST) as f32,
        _ => 1.0,
    };
    squares.iter().zip(sizes).map(one).collect()
}

/// What cells are made with.
struct Making<'a> {
    graph: &'a Graph,
    rotation: &'a Rotation,
    pool: &'a Pool,
    stop: &'a AtomicBool,
}

impl Making<'_> {
    /// Does `work` for every item, on every thread; None if the stop came first.
    fn each<I: Sync, T: Send>(
        &self,
        items: &[I],
        work: impl Fn(&mut Space, usize, &I) -> T + Sync,
    ) -> Option<Vec<T>> {
        let one = |space: &mut Space, (at, item): (usize, &I)| {
            let ended = self.stop.load(Ordering::Relaxed);
            (!ended).then(|| work(space, at, item))
        };
        let mut done = Vec::with_capacity(items.len());
        // a stroke at a time: others wait for the pool meanwhile
        for (stroke, items) in (0..).step_by(STROKE).zip(items.chunks(STROKE)) {
            let items = items.par_iter().enumerate().map(|(at, item)| (stroke + at, item));
            let all = items.with_max_len(16).map_init(Space::default, one);
            done.append(&mut self.pool.run(|| all.collect::<Option<Vec<T>>>())?);
        }
        Some(done)
    }

    /// The centres of the first rows. They begin at rows that are spread evenly.
    fn centres(&self, rows: usize) -> Option<Centres> {
        let count = centres(rows).clamp(1, rows.max(1));
        let spread = |count: usize| -> Vec<u32> {
            (0..count).map(|at| (at * rows / count) as u32).collect()
        };
        let sample = spread((SAMPLED * count).min(rows));
        let restore = |space: &mut Space, _: usize, row: &u32| {
            space.restore(self.graph, *row);
            space.state.clone()
        };
        let mut middles = self.each(&spread(count.min(rows)), restore)?;
        for _ in 0..MOVES {
            let homes = self.homes(&sample, &Centres::of(self.graph, &middles))?;
            let cells = Grouped::of(&homes, middles.len());
            let spans: Vec<&[u32]> = cells.starts.windows(2).collect();
            middles = self.each(&spans, |space, cell, span| {
                let members = &cells.members[span[0] as usize..][..cells.sizes[cell] as usize];
                if members.is_empty() {
                    return middles[cell].clone();
                }
                let mut mean = vec![0.0; self.graph.dimension()];
                for &member in members {
                    space.restore(self.graph, sample[member as usize]);
                    mean.iter_mut().zip(&space.state).for_each(|(sum, x)| *sum += x);
                }
                let share = 1.0 / members.len() as f32;
                for x in &mut mean {
                    *x *= share;
                }
                mean
            })?;
        }
        Some(Centres::of(self.graph, &middles))
    }

    /// The nearest centre of each of some rows.
    fn homes(&self, rows: &[u32], centres: &Centres) -> Option<Vec<u32>> {
        self.each(rows, |space, _, row| {
            space.restore(self.graph, *row);
            centres.nearest(space)
        })
    }

    /// What is kept of every group of members.
    fn outlines(&self, starts: &[u32], members: &[u32], centres: &Centres) -> Option<Vec<Outline>> {
        let cells = starts.windows(2).enumerate();
        let groups: Vec<(usize, &[u32])> = cells
            .flat_map(|(cell, span)| {
                let members = &members[span[0] as usize..span[1] as usize];
                members.chunks(GROUP).map(move |group| (cell, group))
            })
            .collect();
        self.each(&groups, |space, _, &(cell, group)| {
            centres.restore(cell, space);
            let mut outline = Outline { cell, ..Outline::default() };
            for (nth, &row) in group.iter().enumerate().filter(|(_, row)| **row != NOBODY) {
                self.add_to(&mut outline, nth, row, space);
            }
            outline
        })
    }

    /// Adds a member of the cell whose centre is in the space.
    fn add_to(&self, outline: &mut Outline, nth: usize, row: u32, space: &mut Space) {
        let square = |x: &[f32]| Kernel::best().products(x, x).1;
        let euclidean = self.graph.params().metric == Metric::Euclidean;
        space.restore(self.graph, row);
        let Space { state, centre, .. } = space;
        if euclidean {
            outline.plus[nth] = (square(state) - square(centre)) as f32;
        }
        state.iter_mut().zip(centre).for_each(|(x, middle)| *x -= *middle);
        let rest = square(state);
        outline.squares += rest;
        project(self.rotation, state);
        outline.sketches.set(nth, state.iter().map(|x| x.is_sign_positive()));
        let sum: f64 = state.iter().map(|x| f64::from(x.abs())).sum();
        // what f32 does not hold is no number, here and for whoever looks whether all are
        let weight = if rest == 0.0 { 0.0 } else { rest / sum };
        outline.times[nth] = (if euclidean { -2.0 } else { -1.0 } * weight) as f32;
    }
}

/// What one thread works in.
#[derive(Default)]
struct Space {
    code: Vec<Line>,
    state: Vec<f32>,
    centre: Vec<f32>,
    prepared: Prepared,
    nodes: Vec<u32>,
    costs: Vec<f32>,
}

impl Space {
    /// Leaves a row's state in the space, as its code has it, divided by its length where lengths do not count.
    fn restore(&mut self, graph: &Graph, row: u32) {
        let norm = graph.restore(row, &mut self.code, &mut self.state);
        if graph.params().metric == Metric::Cosine && norm > 0.0 {
            for x in &mut self.state {
                *x /= norm;
            }
        }
    }
}

impl Centres {
    /// These, which are as wide as a graph's states.
    fn of(graph: &Graph, middles: &[Vec<f32>]) -> Self {
        let mut centres = Self::new(graph.dimension());
        for middle in middles {
            centres.push(middle);
        }
        centres
    }

    /// Leaves a centre in the space, as its code has it.
    fn restore(&self, cell: usize, space: &mut Space) {
        self.graph.restore(cell as u32, &mut space.code, &mut space.centre);
    }

    /// The nearest to the state in the space.
    fn nearest(&self, space: &mut Space) -> u32 {
        let Space { state, prepared, nodes, costs, .. } = space;
        self.ask(state, prepared, nodes, costs);
        let far = costs.iter().zip(&self.halves).map(|(cost, half)| cost + half);
        let nearest = (0..).zip(far).min_by(|a, b| a.1.total_cmp(&b.1));
        nearest.map_or(0, |(cell, _)| cell)
    }
}
