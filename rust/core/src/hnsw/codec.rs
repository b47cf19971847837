//! What a row or a query is to the graph: lines of a code, and the few numbers that make distances of their products.
//!
//! With int8 codes a row is about `scale * code`; in memory it lies in [`halves`], of which walks may read the upper ones
//! only. With binary codes it is first rotated at random, then kept as signs;
//! `|x|² / |x|₁` times the product of the signs with a query is an unbiased estimate of the product with the row itself
//! (`RaBitQ`, Gao and Long 2024). With none it is there as it came.

use crate::error::{Error, Result};
use crate::kernel::distance::{self, Fine, Line, Shape};
use crate::kernel::halves;
use crate::kernel::score::{self, BITS, FLOATS};
use crate::metric::Metric;

use super::params::{Params, Quantization};
use super::rotation::Rotation;

/// What turns the product of a row's code and a query's into a cost that orders rows as the distance does: the distance
/// itself, except for Euclid, where it is squared. `cost = row.times * product * query.times + row.plus + query.plus`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Facts {
    /// Bounds what the code leaves out.
    pub(super) shape: Shape,
    pub(super) times: f32,
    pub(super) plus: f32,
}

/// A query as walks ask it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coarse<'a> {
    pub(super) lines: &'a [Line],
    pub(super) times: f32,
    pub(super) plus: f32,
    /// Whether the upper halves of rows are enough.
    pub(super) quick: bool,
}

/// A query, coded for one graph. Keep it: the next query takes the memory of this one.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// What walks read.
    lines: Vec<Line>,
    times: f32,
    plus: f32,
    /// What bounds are made of.
    pub(super) fine: Fine,
    pub(super) state: Vec<f32>,
    /// The squared length of `state`, where that is what rows are measured against.
    pub(super) square: f64,
    turned: Vec<f32>,
    /// What bounds are of; walks and estimates know the graph's metric only.
    pub(super) metric: Metric,
    /// False for a query that came as a code: there is nothing finer behind it.
    pub(super) exact: bool,
}

impl Prepared {
    pub(super) fn coarse(&self, quick: bool) -> Coarse<'_> {
        Coarse { lines: &self.lines, times: self.times, plus: self.plus, quick }
    }
}

/// What a code is for: binary queries have more bits than rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To be found.
    Row,
    /// To ask with.
    Query,
}

/// How one graph codes rows and queries.
#[derive(Debug)]
pub struct Codec {
    dimension: usize,
    metric: Metric,
    quantization: Quantization,
    /// Components of a code: the dimension, for binary ones rounded up to whole lines of a query.
    length: usize,
    rotation: Option<Rotation>,
    pub(super) kernel: distance::Kernel,
    pub(super) score: score::Kernel,
}

/// Bytes of the numbers before a code: scale, length, residual.
const HEAD: usize = 12;

impl Codec {
    pub(super) fn new(dimension: usize, params: &Params) -> Self {
        let Params { metric, quantization, seed, .. } = *params;
        let binary = quantization == Quantization::Binary;
        let length = if binary { dimension.next_multiple_of(Line::LEN) } else { dimension };
        Self {
            dimension,
            metric,
            quantization,
            length,
            rotation: binary.then(|| Rotation::new(length, seed)),
            kernel: distance::Kernel::best(),
            score: score::Kernel::best(),
        }
    }

    pub(super) fn metric(&self) -> Metric {
        self.metric
    }

    pub(super) fn quantization(&self) -> Quantization {
        self.quantization
    }

    pub(super) fn dimension(&self) -> usize {
        self.dimension
    }

    /// Lines of a row's code.
    pub(super) fn lines(&self) -> usize {
        match self.quantization {
            Quantization::None => self.dimension.div_ceil(FLOATS),
            Quantization::Int8 => Line::needed(self.dimension),
            Quantization::Binary => self.length.div_ceil(BITS),
        }
    }

    /// Codes a state into lines of zeros.
    pub(super) fn code(&self, state: &[f32], code: &mut [Line]) -> Facts {
        let (shape, weight) = match self.quantization {
            Quantization::None => {
                write_floats(state, code);
                let norm = self.kernel.products(state, state).1.sqrt() as f32;
                (Shape { scale: 1.0, norm, residual: 0.0 }, 1.0)
            }
            Quantization::Int8 => {
                let shape = self.kernel.encode(state, code);
                halves::split(code);
                (shape, shape.scale)
            }
            Quantization::Binary => self.code_signs(state, code),
        };
        self.facts(shape, weight)
    }

    fn code_signs(&self, state: &[f32], code: &mut [Line]) -> (Shape, f32) {
        let mut turned = Vec::with_capacity(self.length);
        self.turn(state, &mut turned);
        for (at, _) in turned.iter().enumerate().filter(|(_, x)| x.is_sign_positive()) {
            code[at / BITS].0[at % BITS / 8] |= (1_u8 << (at % 8)).cast_signed();
        }
        let sum: f64 = turned.iter().map(|x| f64::from(x.abs())).sum();
        let square: f64 = state.iter().map(|x| f64::from(*x).powi(2)).sum();
        let scale = sum / self.length as f64;
        let left_out = (square - scale * sum).max(0.0).sqrt();
        let shape = Shape {
            scale: scale as f32,
            norm: square.sqrt() as f32,
            // the rotation rounds, too
            residual: if turns_well(square) {
                (left_out + 1e-5 * square.sqrt()) as f32
            } else {
                f32::INFINITY
            },
        };
        (shape, if sum > 0.0 { (square / sum) as f32 } else { 0.0 })
    }

    fn facts(&self, shape: Shape, weight: f32) -> Facts {
        let Shape { norm, .. } = shape;
        let (times, plus) = match self.metric {
            Metric::Cosine => (if norm > 0.0 { -weight / norm } else { 0.0 }, 1.0),
            Metric::Dot => (-weight, 0.0),
            Metric::Euclidean if self.quantization == Quantization::None => (1.0, 0.0),
            Metric::Euclidean => (-2.0 * weight, norm * norm),
        };
        Facts { shape, times, plus }
    }

    /// Codes a query in the memory that `into` has.
    pub(super) fn prepare(&self, query: &[f32], into: &mut Prepared) {
        assert_eq!(query.len(), self.dimension, "a query of the graph's dimension");
        let Prepared { lines, times, plus, fine, state, square, turned, metric, exact } = into;
        (*metric, *exact) = (self.metric, true);
        lines.clear();
        let (unit, norm) = match self.quantization {
            Quantization::None => {
                state.clear();
                state.extend_from_slice(query);
                *square = self.kernel.products(query, query).0;
                lines.resize(self.lines(), Line::ZERO);
                write_floats(query, lines);
                (1.0, square.sqrt())
            }
            Quantization::Int8 => {
                self.kernel.refine(query, fine);
                lines.extend_from_slice(fine.high());
                (256.0 * fine.step, fine.norm)
            }
            Quantization::Binary => {
                turned.clear();
                self.turn(query, turned);
                self.kernel.refine(turned, fine);
                if !turns_well(self.kernel.products(query, query).0) {
                    fine.residual = f64::INFINITY;
                }
                lines.extend_from_slice(fine.high());
                (256.0 * fine.step, fine.norm)
            }
        };
        (*times, *plus) = self.asking(unit, norm);
    }

    /// The worth of a query whose units are worth `unit`.
    fn asking(&self, unit: f64, norm: f64) -> (f32, f32) {
        match self.metric {
            Metric::Cosine => (if norm > 0.0 { (unit / norm) as f32 } else { 0.0 }, 0.0),
            Metric::Dot => (unit as f32, 0.0),
            Metric::Euclidean if self.quantization == Quantization::None => (1.0, 0.0),
            Metric::Euclidean => (unit as f32, (norm * norm) as f32),
        }
    }

    /// Whether codes are in halves, of which the upper ones may do.
    pub(super) fn splits(&self) -> bool {
        self.quantization == Quantization::Int8 && halves::pairs(self.lines()) > 0
    }

    /// Lines of a row's code that the score by `query` reads.
    pub(super) fn read_by(&self, query: &Coarse<'_>) -> usize {
        if query.quick { halves::upper(self.lines()) } else { self.lines() }
    }

    /// A row's code with a byte for every component (without quantisation as it is), in `space` if it lies otherwise.
    fn laid_out<'a>(&self, code: &'a [Line], space: &'a mut Vec<Line>) -> &'a [Line] {
        if self.quantization == Quantization::Binary {
            spread(code, self.length, space);
        } else if self.splits() {
            self.score.join(code, space);
        } else {
            return code;
        }
        space
    }

    /// A row as a query. `space` is where a row's halves are put together or its signs are spread out.
    pub(super) fn row_asks<'a>(
        &self,
        code: &'a [Line],
        facts: &Facts,
        space: &'a mut Vec<Line>,
    ) -> Coarse<'a> {
        let Facts { shape, times, plus } = *facts;
        let asked = |lines, times: f32| {
            let plus = if self.metric == Metric::Euclidean { plus } else { 0.0 };
            Coarse { lines, times, plus, quick: false }
        };
        let code = self.laid_out(code, space);
        match (self.quantization, self.metric) {
            (Quantization::None, Metric::Euclidean) => {
                Coarse { lines: code, times: 1.0, plus: 0.0, quick: false }
            }
            (Quantization::None | Quantization::Int8, Metric::Cosine | Metric::Dot) => {
                asked(code, -times)
            }
            (Quantization::Int8, Metric::Euclidean) => asked(code, -0.5 * times),
            (Quantization::Binary, metric) => {
                let unit = 1.0 / (self.length as f32).sqrt();
                asked(code, if metric == Metric::Cosine { unit } else { shape.norm * unit })
            }
        }
    }

    /// Leaves in `state` what a row's code stands for. `space` is where halves are put together or signs are spread out.
    pub(super) fn restore(
        &self,
        code: &[Line],
        facts: &Facts,
        space: &mut Vec<Line>,
        state: &mut Vec<f32>,
    ) {
        state.clear();
        if self.quantization == Quantization::None {
            state.extend(score::floats(code).take(self.dimension));
            return;
        }
        let code = self.laid_out(code, space);
        let Shape { scale, norm, .. } = facts.shape;
        let unit = match self.quantization {
            // of products that is the estimate without bias, as in the costs
            Quantization::Binary if scale > 0.0 => norm * norm / (scale * self.length as f32),
            _ => scale,
        };
        let components = code.iter().flat_map(|line| line.0).take(self.length);
        state.extend(components.map(|x| unit * f32::from(x)));
        if let Some(rotation) = &self.rotation {
            rotation.turn_back(state);
        }
        state.truncate(self.dimension);
    }

    /// The products of codes, as far as the query reads them, with the query's, as `f32`.
    pub(super) fn products(&self, rows: &[&[Line]], query: &Coarse<'_>, out: &mut [f32]) {
        let mut sums = [0; CHUNK];
        match self.quantization {
            Quantization::None if self.metric == Metric::Euclidean => {
                self.score.squares(rows, query.lines, out);
            }
            Quantization::None => self.score.products(rows, query.lines, out),
            Quantization::Int8 | Quantization::Binary => {
                let sums = &mut sums[..rows.len()];
                match (self.quantization, query.quick) {
                    (Quantization::Binary, _) => self.score.signs(rows, query.lines, sums),
                    (_, false) => self.score.bytes(rows, query.lines, sums),
                    (_, true) => self.score.uppers(rows, query.lines, sums),
                }
                // upper halves give twice the product
                let unit = if query.quick { 0.5 } else { 1.0 };
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = unit * *sum as f32);
            }
        }
    }

    fn turn(&self, state: &[f32], into: &mut Vec<f32>) {
        into.extend_from_slice(state);
        into.resize(self.length, 0.0);
        if let Some(rotation) = &self.rotation {
            rotation.turn(into);
        }
    }

    /// Bytes of an encoded vector.
    pub fn bytes_per_vector(&self, role: Role) -> usize {
        match (self.quantization, role) {
            (Quantization::None, _) => 4 * self.dimension,
            (Quantization::Int8, _) | (Quantization::Binary, Role::Query) => HEAD + self.length,
            (Quantization::Binary, Role::Row) => HEAD + self.length / 8,
        }
    }

    /// Appends the code of a state (finite, of the graph's dimension): for int8 and binary codes its scale, its length
    /// and the length of what the code leaves out, three little-endian f32, then the code; without quantisation the
    /// state's f32.
    pub fn encode(&self, state: &[f32], role: Role, out: &mut Vec<u8>) {
        assert_eq!(state.len(), self.dimension, "a state of the graph's dimension");
        let (shape, code) = match (self.quantization, role) {
            (Quantization::None, _) => {
                out.extend(state.iter().flat_map(|x| x.to_le_bytes()));
                return;
            }
            (Quantization::Int8, _) | (Quantization::Binary, Role::Query) => {
                let mut turned = Vec::new();
                self.turn(state, &mut turned);
                let mut code = vec![Line::ZERO; Line::needed(self.length)];
                (self.kernel.encode(&turned, &mut code), code)
            }
            (Quantization::Binary, Role::Row) => {
                let mut code = vec![Line::ZERO; self.lines()];
                (self.code(state, &mut code).shape, code)
            }
        };
        let Shape { scale, norm, residual } = shape;
        out.extend([scale, norm, residual].iter().flat_map(|x| x.to_le_bytes()));
        let bytes = self.bytes_per_vector(role) - HEAD;
        out.extend(code.iter().flat_map(|line| line.0).take(bytes).map(i8::cast_unsigned));
    }

    /// The state that a row's code stands for; `code` has [`Self::bytes_per_vector`] bytes.
    pub fn decode(&self, code: &[u8]) -> Result<Vec<f32>> {
        let Read { scale, code, .. } = self.read(code, Role::Row)?;
        let mut state: Vec<f32> = match self.quantization {
            Quantization::None => return Ok(words(code).collect()),
            Quantization::Int8 => code.iter().map(|x| scale * f32::from(x.cast_signed())).collect(),
            Quantization::Binary => {
                let bits = code.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
                bits.map(|bit| if bit == 1 { scale } else { -scale }).collect()
            }
        };
        if let Some(rotation) = &self.rotation {
            rotation.turn_back(&mut state);
        }
        state.truncate(self.dimension);
        Ok(state)
    }

    /// Prepares a query that was encoded with [`Role::Query`]: for walks and estimates, not for bounds.
    pub fn prepare_code(&self, code: &[u8], into: &mut Prepared) -> Result<()> {
        let Read { scale, norm, code } = self.read(code, Role::Query)?;
        if self.quantization == Quantization::None {
            self.prepare(&words(code).collect::<Vec<_>>(), into);
            return Ok(());
        }
        into.lines.clear();
        into.lines.resize(Line::needed(self.length), Line::ZERO);
        let bytes = into.lines.iter_mut().flat_map(|line| &mut line.0);
        // -128 is no code: kernels count on that
        bytes.zip(code).for_each(|(to, from)| *to = from.cast_signed().max(-127));
        (into.times, into.plus) = self.asking(f64::from(scale), f64::from(norm));
        into.exact = false;
        Ok(())
    }

    fn read<'c>(&self, code: &'c [u8], role: Role) -> Result<Read<'c>> {
        let expected = self.bytes_per_vector(role);
        if code.len() != expected {
            return Err(Error::invalid("codes", format!("{expected} bytes a vector"), code.len()));
        }
        let numbers = if self.quantization == Quantization::None { code } else { &code[..HEAD] };
        if let Some(number) = words(numbers).find(|x| !x.is_finite()) {
            return Err(Error::invalid("codes", "finite numbers", number));
        }
        if self.quantization == Quantization::None {
            return Ok(Read { scale: 1.0, norm: 0.0, code });
        }
        let mut head = words(numbers);
        let mut next = || head.next().unwrap_or(0.0);
        Ok(Read { scale: next(), norm: next(), code: &code[HEAD..] })
    }
}

/// The parts of an encoded vector.
struct Read<'c> {
    scale: f32,
    norm: f32,
    code: &'c [u8],
}

/// Rows that kernels are asked about together.
pub(super) const CHUNK: usize = 64;

/// Whether f32 has room to rotate a vector of this squared length: where it gets coarse or ends, nothing is certain.
fn turns_well(square: f64) -> bool {
    square == 0.0 || (1e-60..1e70).contains(&square)
}

fn words(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word))
}

fn write_floats(state: &[f32], lines: &mut [Line]) {
    let words = lines.iter_mut().flat_map(|line| line.0.as_chunks_mut::<4>().0);
    for (word, x) in words.zip(state) {
        *word = x.to_le_bytes().map(u8::cast_signed);
    }
}

/// Bits as bytes of one and minus one.
fn spread(code: &[Line], length: usize, into: &mut Vec<Line>) {
    into.clear();
    into.resize(length / Line::LEN, Line::ZERO);
    let bits =
        code.iter().flat_map(|line| line.0).flat_map(|byte| (0..8).map(move |i| byte >> i & 1));
    let bytes = into.iter_mut().flat_map(|line| &mut line.0);
    bytes.zip(bits).for_each(|(byte, bit)| *byte = 2 * bit - 1);
}
