use super::*;
use crate::rng::Rng;

fn lines(count: usize, stream: u64, extreme: bool) -> Vec<Line> {
    let rng = Rng::new(11, stream);
    let byte = |at: u64| if extreme { 127 } else { (rng.below(at, 255) as i64 - 127) as i8 };
    let line = |line: usize| Line(std::array::from_fn(|i| byte((line * Line::LEN + i) as u64)));
    (0..count).map(line).collect()
}

fn float_lines(count: usize, stream: u64) -> Vec<Line> {
    let rng = Rng::new(12, stream);
    let mut out = vec![Line::ZERO; count];
    for (i, word) in out.iter_mut().flat_map(|line| line.0.as_chunks_mut::<4>().0).enumerate() {
        *word = (rng.normal(i as u64) as f32).to_le_bytes().map(u8::cast_signed);
    }
    out
}

fn every_kernel() -> impl Iterator<Item = (Isa, Kernel)> {
    Isa::available().into_iter().map(|isa| (isa, Kernel::of(isa).unwrap()))
}

/// Twice the sum of products where every row's component that is split is the middle of its sixteen.
fn about(row: &[i8], query: &[i8]) -> i32 {
    let split = 2 * halves::pairs(row.len() / Line::LEN) * Line::LEN;
    let twice = |(at, x): (usize, &i8)| {
        if at < split { 32 * ((i32::from(*x) + 128) / 16) + 15 - 256 } else { 2 * i32::from(*x) }
    };
    row.iter().enumerate().map(twice).zip(query).map(|(x, &q)| x * i32::from(q)).sum()
}

#[test]
fn integer_scores_are_the_exact_sums_on_every_set() {
    for count in [1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 256] {
        for (rows, extreme) in [(1, false), (3, false), (4, true), (9, false)] {
            let query = lines(count, 1, extreme);
            let bytes: Vec<_> = (0..rows).map(|i| lines(count, 2 + i, extreme)).collect();
            let bits: Vec<_> = bytes.iter().map(|row| row[..count.div_ceil(8)].to_vec()).collect();
            let flat = |lines: &[Line]| lines.iter().flat_map(|line| line.0).collect::<Vec<i8>>();
            let wide = flat(&query);
            let dot: Vec<i32> = bytes
                .iter()
                .map(|row| {
                    flat(row).iter().zip(&wide).map(|(&x, &q)| i32::from(x) * i32::from(q)).sum()
                })
                .collect();
            let picked: Vec<i32> = bits
                .iter()
                .map(|row| {
                    let row = flat(row);
                    let sign = |i: usize| if row[i / 8] >> (i % 8) & 1 == 1 { 1 } else { -1 };
                    wide.iter().enumerate().map(|(i, &q)| sign(i) * i32::from(q)).sum()
                })
                .collect();
            let about: Vec<i32> = bytes.iter().map(|row| about(&flat(row), &wide)).collect();
            let (plain, mut bytes) = (bytes.clone(), bytes);
            for row in &mut bytes {
                halves::split(row);
            }
            let bytes: Vec<&[Line]> = bytes.iter().map(Vec::as_slice).collect();
            let uppers: Vec<&[Line]> =
                bytes.iter().map(|row| &row[..halves::upper(count)]).collect();
            let bits: Vec<&[Line]> = bits.iter().map(Vec::as_slice).collect();
            for (isa, kernel) in every_kernel() {
                let mut got = vec![i32::MIN; rows as usize];
                let mut joined = vec![Line([9; 64]); 2];
                kernel.join(bytes[0], &mut joined);
                assert_eq!(joined, plain[0], "{isa:?}, {count} lines");
                kernel.bytes(&bytes, &query, &mut got);
                assert_eq!(got, dot, "{isa:?}, {count} lines, {rows} rows");
                kernel.uppers(&uppers, &query, &mut got);
                assert_eq!(got, about, "{isa:?}, {count} lines, {rows} rows");
                kernel.signs(&bits, &query, &mut got);
                assert_eq!(got, picked, "{isa:?}, {count} lines, {rows} rows");
            }
        }
    }
}

#[test]
fn float_scores_agree_with_the_plain_sums_on_every_set() {
    for count in [1, 2, 5, 48, 128] {
        for rows in [1, 4, 7] {
            let query = float_lines(count, 1);
            let codes: Vec<_> = (0..rows).map(|i| float_lines(count, 2 + i)).collect();
            let rows: Vec<&[Line]> = codes.iter().map(Vec::as_slice).collect();
            let sum = |term: fn(f64, f64) -> f64| -> Vec<f64> {
                let terms = |row: &[Line]| {
                    let pairs = scalar::floats(row).zip(scalar::floats(&query));
                    pairs.map(|(x, q)| term(f64::from(x), f64::from(q))).sum()
                };
                rows.iter().map(|row| terms(row)).collect()
            };
            let (dot, square) = (sum(|x, q| x * q), sum(|x, q| (x - q).powi(2)));
            let near = |got: &[f32], exact: &[f64]| {
                let room = 1e-6 * (16 * count) as f64;
                got.iter().zip(exact).all(|(got, exact)| (f64::from(*got) - exact).abs() < room)
            };
            for (isa, kernel) in every_kernel() {
                let mut got = vec![f32::NAN; rows.len()];
                kernel.products(&rows, &query, &mut got);
                assert!(near(&got, &dot), "{isa:?}, {count} lines: {got:?}, {dot:?}");
                kernel.squares(&rows, &query, &mut got);
                assert!(near(&got, &square), "{isa:?}, {count} lines: {got:?}, {square:?}");
            }
        }
    }
}
