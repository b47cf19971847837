//! Codes in two halves: the upper four bits of components lie before their lower four, so that whoever can do without
//! the lower ones reads half as much memory.
//!
//! Of a row of four lines and more, every pair of lines becomes a line of upper and a line of lower halves: the first
//! line's in the lower four bits of each byte, the second's in the upper four. A row is then its upper lines, a line that
//! has no partner, its lower lines. Shorter rows stay as they are: memory comes in lines, and they have few.
//!
//! A half is one of a byte that was lifted by 128, so that it has no sign: `code = 16 * upper + lower - 128`. Without its
//! lower half, which is from 0 to 15, a code is about `16 * upper + 7.5 - 128`.

use super::distance::Line;

/// Fewest lines that are split.
const SPLIT: usize = 4;

/// Pairs of lines that are split, of a row of so many lines.
pub fn pairs(lines: usize) -> usize {
    if lines < SPLIT { 0 } else { lines / 2 }
}

/// Lines before the lower halves: what a quick look reads.
pub fn upper(lines: usize) -> usize {
    lines - pairs(lines)
}

/// Splits a code where it lies.
pub fn split(code: &mut [Line]) {
    let (pairs, upper) = (pairs(code.len()), upper(code.len()));
    let mut lower = Vec::with_capacity(pairs);
    for at in 0..pairs {
        // what is written was read: line `at` belongs to a pair before this one, or to this
        let [first, second] = [code[2 * at], code[2 * at + 1]].map(|line| line.0.map(lift));
        let both = |half: fn(u8) -> u8| {
            Line(std::array::from_fn(|i| (half(second[i]) << 4 | half(first[i])).cast_signed()))
        };
        lower.push(both(|byte| byte & 0x0F));
        code[at] = both(|byte| byte >> 4);
    }
    if upper > pairs && pairs > 0 {
        code[pairs] = code[code.len() - 1];
    }
    code[upper..].copy_from_slice(&lower);
}

/// Puts a split code together, in place of what is in `into`. Each instruction set compiles it for its own registers.
#[expect(clippy::inline_always, reason = "a copy for every instruction set is the point")]
#[inline(always)]
pub fn join(code: &[Line], into: &mut Vec<Line>) {
    let (pairs, upper) = (pairs(code.len()), upper(code.len()));
    into.resize(code.len(), Line::ZERO);
    let (split, whole) = into.split_at_mut(2 * pairs);
    let halves = code[..pairs].iter().zip(&code[upper..]);
    for ((above, below), pair) in halves.zip(split.as_chunks_mut::<2>().0) {
        *pair = joined(above, below);
    }
    whole.copy_from_slice(&code[pairs..upper]);
}

/// The lines of a split code, put together one pair at a time.
pub(super) fn lines(code: &[Line]) -> impl Iterator<Item = Line> {
    let (pairs, upper) = (pairs(code.len()), upper(code.len()));
    let halves = code[..pairs].iter().zip(&code[upper..]);
    halves.flat_map(|(above, below)| joined(above, below)).chain(code[pairs..upper].iter().copied())
}

/// The pair of lines with these halves.
#[expect(clippy::inline_always, reason = "a copy for every instruction set is the point")]
#[inline(always)]
fn joined(above: &Line, below: &Line) -> [Line; 2] {
    let mut pair = [Line::ZERO; 2];
    for i in 0..Line::LEN {
        let (above, below) = (above.0[i].cast_unsigned(), below.0[i].cast_unsigned());
        pair[0].0[i] = drop_lift(above << 4 | below & 0x0F);
        pair[1].0[i] = drop_lift(above & 0xF0 | below >> 4);
    }
    pair
}

fn lift(code: i8) -> u8 {
    code.cast_unsigned() ^ 128
}

#[expect(clippy::inline_always, reason = "one instruction")]
#[inline(always)]
fn drop_lift(lifted: u8) -> i8 {
    (lifted ^ 128).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_code_in_halves_is_put_together_again() {
        let rng = Rng::new(3, 1);
        for lines in (0..20).chain([64, 255, 256]) {
            let code: Vec<Line> = (0..lines * Line::LEN)
                .map(|at| (rng.below(at as u64, 255) as i64 - 127) as i8)
                .collect::<Vec<_>>()
                .as_chunks()
                .0
                .iter()
                .map(|line| Line(*line))
                .collect();
            let (mut halves, mut back) = (code.clone(), vec![Line([9; 64]); 3]);
            split(&mut halves);
            join(&halves, &mut back);
            assert_eq!(back, code, "{lines} lines");
            assert_eq!(halves == code, lines < SPLIT, "{lines} lines");
            assert_eq!(upper(lines) + pairs(lines), lines);
        }
    }

    #[test]
    fn the_upper_half_misses_a_code_by_less_than_eight() {
        let mut code: Vec<Line> = (0..4)
            .map(|line| Line(std::array::from_fn(|i| (line * 64 + i).clamp(1, 255) as u8 as i8)))
            .collect();
        let whole = code.clone();
        split(&mut code);
        for at in 0..Line::LEN {
            for (pair, line) in code[..2].iter().enumerate() {
                let byte = line.0[at].cast_unsigned();
                for (line, half) in [(2 * pair, byte & 0x0F), (2 * pair + 1, byte >> 4)] {
                    let about = 16.0 * f64::from(half) + 7.5 - 128.0;
                    assert!((about - f64::from(whole[line].0[at])).abs() < 8.0);
                }
            }
        }
    }
}
