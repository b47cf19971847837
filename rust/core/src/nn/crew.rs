//! Cutting work by rows among threads. A row is worked on by one thread in one order, so the number of threads cannot
//! change a result.

use crate::pool::Pool;

/// Something that can be cut between two of its rows.
pub(super) trait Cut: Sized + Send {
    /// How many rows are left.
    fn rows(&self) -> usize;

    /// The first `rows` rows, and the others.
    fn cut(self, rows: usize) -> (Self, Self);
}

/// A matrix to write into.
pub(super) struct Grid<'a, T> {
    pub(super) values: &'a mut [T],
    width: usize,
}

impl<'a, T> Grid<'a, T> {
    /// `values` as rows of `width`.
    pub(super) fn new(values: &'a mut [T], width: usize) -> Self {
        debug_assert!(values.len().is_multiple_of(width));
        Self { values, width }
    }
}

impl<T: Send> Cut for Grid<'_, T> {
    fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    fn cut(self, rows: usize) -> (Self, Self) {
        let (above, below) = self.values.split_at_mut(rows * self.width);
        (Self::new(above, self.width), Self::new(below, self.width))
    }
}

macro_rules! cut_together {
    ($($name:ident $second:ident),+) => {
        impl<$($name: Cut),+> Cut for ($($name),+) {
            fn rows(&self) -> usize {
                self.0.rows()
            }

            #[expect(non_snake_case, reason = "each part is named after its type")]
            fn cut(self, rows: usize) -> (Self, Self) {
                let ($($name),+) = self;
                $(let ($name, $second) = $name.cut(rows);)+
                (($($name),+), ($($second),+))
            }
        }
    };
}
cut_together!(A a, B b);
cut_together!(A a, B b, C c);

/// The threads that share a piece of work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crew {
    threads: usize,
}

impl Crew {
    /// The caller alone.
    pub(super) const ALONE: Self = Self { threads: 1 };

    /// Runs `work` with the crew of a pool, on that pool.
    pub(super) fn gather<T: Send>(pool: Option<&Pool>, work: impl FnOnce(Self) -> T + Send) -> T {
        match pool {
            Some(pool) if pool.threads() > 1 => {
                let crew = Self { threads: pool.threads() };
                pool.run(|| work(crew))
            }
            _ => work(Self::ALONE),
        }
    }

    /// Whether there are no others.
    pub(super) fn is_alone(self) -> bool {
        self.threads == 1
    }

    /// How many rows a thread takes at once, so that all have some: a multiple of `tile`, `most` at the most.
    pub(super) fn share(self, rows: usize, tile: usize, most: usize) -> usize {
        rows.div_ceil(self.threads).next_multiple_of(tile).min(most)
    }

    /// Does both, at the same time where there are threads to.
    pub(super) fn both(self, one: impl FnOnce() + Send, other: impl FnOnce() + Send) {
        if self.threads > 1 {
            rayon::join(one, other);
        } else {
            one();
            other();
        }
    }

    /// Calls `work` with the first row and the part, for parts of `at_once` rows; together they are `whole`.
    pub(super) fn each<W: Cut>(self, whole: W, at_once: usize, work: &(impl Fn(usize, W) + Sync)) {
        self.each_from(0, whole, at_once, work);
    }

    fn each_from<W: Cut>(
        self,
        mut first: usize,
        mut rest: W,
        at_once: usize,
        work: &(impl Fn(usize, W) + Sync),
    ) {
        while rest.rows() > at_once {
            let parts = rest.rows().div_ceil(at_once);
            if self.threads > 1 {
                let middle = parts / 2 * at_once;
                let (above, below) = rest.cut(middle);
                rayon::join(
                    || self.each_from(first, above, at_once, work),
                    || self.each_from(first + middle, below, at_once, work),
                );
                return;
            }
            let (part, others) = rest.cut(at_once);
            work(first, part);
            (first, rest) = (first + at_once, others);
        }
        if rest.rows() > 0 {
            work(first, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_visited_once_with_its_own_number() {
        for threads in 1..=3 {
            let pool = Pool::new(threads).unwrap();
            for rows in 0..40 {
                let (mut numbers, mut visits) = (vec![0; rows * 2], vec![0; rows]);
                Crew::gather(Some(&pool), |crew| {
                    let whole = (Grid::new(&mut numbers, 2), Grid::new(&mut visits, 1));
                    crew.each(whole, 3, &|first, (numbers, visits)| {
                        for (i, row) in numbers.values.chunks_exact_mut(2).enumerate() {
                            row.fill(first + i);
                            visits.values[i] += 1;
                        }
                    });
                });
                assert!(visits.iter().all(|n| *n == 1));
                assert!(numbers.iter().enumerate().all(|(i, n)| *n == i / 2));
            }
        }
    }

    #[test]
    fn shares_are_whole_tiles_and_leave_no_thread_idle() {
        assert_eq!(Crew { threads: 2 }.share(32, 8, 64), 16);
        assert_eq!(Crew { threads: 2 }.share(33, 8, 64), 24);
        assert_eq!(Crew { threads: 3 }.share(1000, 8, 64), 64);
        assert_eq!(Crew::ALONE.share(5, 8, 64), 8);
    }
}
