//! The reference: portable Rust.

use super::super::distance::Line;
use super::super::halves;
use super::LIFT;

pub(super) fn bytes(rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
    for (row, out) in rows.iter().zip(out) {
        let pairs = halves::lines(row).flat_map(|line| line.0).zip(query.bytes());
        *out = pairs.map(|(x, q)| i32::from(x) * i32::from(q)).sum();
    }
}

pub(super) fn uppers(rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
    let pairs = halves::pairs(query.len());
    for (row, out) in rows.iter().zip(out) {
        let mut sum = 0;
        for (line, asked) in row[..pairs].iter().zip(query.as_chunks::<2>().0) {
            for (at, byte) in line.0.map(i8::cast_unsigned).into_iter().enumerate() {
                for (half, q) in [(byte & 0x0F, asked[0].0[at]), (byte >> 4, asked[1].0[at])] {
                    sum += (32 * i32::from(half) - LIFT) * i32::from(q);
                }
            }
        }
        let whole = row[pairs..].bytes().zip(query[2 * pairs..].bytes());
        *out = sum + whole.map(|(x, q)| 2 * i32::from(x) * i32::from(q)).sum::<i32>();
    }
}

pub(super) fn signs(rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
    for (row, out) in rows.iter().zip(out) {
        let bits = row.bytes().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
        let pairs = bits.zip(query.bytes());
        *out = pairs.map(|(bit, q)| if bit == 1 { i32::from(q) } else { -i32::from(q) }).sum();
    }
}

pub(super) fn products(rows: &[&[Line]], query: &[Line], out: &mut [f32]) {
    for (row, out) in rows.iter().zip(out) {
        *out = sum(row, query, |x, q| x * q);
    }
}

pub(super) fn squares(rows: &[&[Line]], query: &[Line], out: &mut [f32]) {
    for (row, out) in rows.iter().zip(out) {
        *out = sum(row, query, |x, q| (x - q) * (x - q));
    }
}

/// Summed in f64: one lane of f32 would round two thousand times.
fn sum(row: &[Line], query: &[Line], term: impl Fn(f64, f64) -> f64) -> f32 {
    let pairs = floats(row).zip(floats(query));
    pairs.map(|(x, q)| term(f64::from(x), f64::from(q))).sum::<f64>() as f32
}

/// A code, read byte by byte.
trait Flat {
    fn bytes(&self) -> impl Iterator<Item = i8>;
}

impl Flat for [Line] {
    fn bytes(&self) -> impl Iterator<Item = i8> {
        self.iter().flat_map(|line| line.0)
    }
}

/// The numbers of lines that hold f32.
pub(crate) fn floats(lines: &[Line]) -> impl Iterator<Item = f32> {
    let words = lines.iter().flat_map(|line| line.0.as_chunks::<4>().0);
    words.map(|word| f32::from_le_bytes(word.map(i8::cast_unsigned)))
}
