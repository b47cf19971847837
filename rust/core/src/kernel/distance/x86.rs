//! AVX2 and AVX-512 (with VNNI).
//!
//! Kernels are safe functions over whole blocks; unsafe are only the loads, the prefetch and the step from "this CPU has
//! the features" to a plain function.
#![expect(unsafe_code, reason = "vector loads and calls of functions for one CPU only")]

use std::arch::x86_64::{
    __m256, __m256d, __m256i, __m512, __m512d, __m512i, _MM_HINT_T0, _mm_add_epi32, _mm_prefetch,
    _mm256_add_epi32, _mm256_add_pd, _mm256_and_si256, _mm256_andnot_si256, _mm256_castpd_ps,
    _mm256_castps256_ps128, _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_cvtepi32_pd,
    _mm256_cvtps_pd, _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_pd,
    _mm256_load_si256, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_mul_pd,
    _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_pd, _mm256_setzero_pd, _mm256_setzero_si256,
    _mm256_slli_epi16, _mm256_srli_epi16, _mm256_storeu_pd, _mm256_storeu_si256, _mm256_sub_pd,
    _mm256_xor_si256, _mm512_add_epi32, _mm512_add_pd, _mm512_castps_pd, _mm512_castps512_ps256,
    _mm512_castsi512_si256, _mm512_cvtps_pd, _mm512_dpbusd_epi32, _mm512_extractf64x4_pd,
    _mm512_extracti64x4_epi64, _mm512_fmadd_pd, _mm512_load_si512, _mm512_loadu_ps, _mm512_mul_pd,
    _mm512_set1_epi8, _mm512_setzero_pd, _mm512_setzero_si512, _mm512_slli_epi16,
    _mm512_srli_epi16, _mm512_storeu_pd, _mm512_sub_pd, _mm512_ternarylogic_epi32,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    _mm512_xor_si512,
};

use super::super::halves;
use super::scalar::{self, LANES, fold, padded};
use super::{Fine, Isa, Kernel, Line, Shape};

/// The kernels for AVX2 and FMA, if this CPU has them.
pub(super) fn avx2() -> Option<Kernel> {
    Isa::Avx2.runs().then_some(Kernel {
        // SAFETY: handed out only when this CPU has both features; so are the next four.
        dots: |rows, query, out| unsafe { dots_avx2(rows, query, out) },
        // SAFETY: as above.
        products: |a, b| unsafe { products_avx2(a, b) },
        // SAFETY: as above.
        squared_distance: |a, b| unsafe { squared_distance_avx2(a, b) },
        // SAFETY: as above.
        encode: |vector, codes| unsafe { encode_avx2(vector, codes) },
        // SAFETY: as above.
        refine: |query, into| unsafe { refine_avx2(query, into) },
    })
}

/// The kernels for AVX-512 F, BW, VL and VNNI, if this CPU has them.
pub(super) fn avx512() -> Option<Kernel> {
    Isa::Avx512.runs().then_some(Kernel {
        // SAFETY: handed out only when this CPU has all four features; so are the next four.
        dots: |rows, query, out| unsafe { dots_avx512(rows, query, out) },
        // SAFETY: as above.
        products: |a, b| unsafe { products_avx512(a, b) },
        // SAFETY: as above.
        squared_distance: |a, b| unsafe { squared_distance_avx512(a, b) },
        // SAFETY: as above.
        encode: |vector, codes| unsafe { encode_avx512(vector, codes) },
        // SAFETY: as above.
        refine: |query, into| unsafe { refine_avx512(query, into) },
    })
}

/// Asks for a cache line ahead of its use.
fn fetch(line: &Line) {
    // SAFETY: a prefetch of a readable address; it changes nothing that a program can see.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(line).cast()) }
}

/// Four rows at once. VNNI multiplies unsigned by signed bytes, so codes are lifted by 128, which the query's sum undoes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn dots_avx512(rows: &[&[Line]], query: &Fine, out: &mut [f64]) {
    let lift = (128 * (256 * query.high_sum + query.low_sum)) as f64;
    let (outs, out_rest) = out.as_chunks_mut::<4>();
    let (groups, rest) = (rows.as_chunks::<4>().0, &rows[4 * outs.len()..][..out_rest.len()]);
    for (at, (group, out)) in groups.iter().zip(outs).enumerate() {
        let ahead = groups.get(at + Kernel::AHEAD / 4).unwrap_or(group);
        *out = four_dots(group, ahead, query, lift);
    }
    if let Some(&first) = rest.first() {
        let mut group = [first; 4];
        group[..rest.len()].copy_from_slice(rest);
        out_rest.copy_from_slice(&four_dots(&group, &group, query, lift)[..rest.len()]);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn four_dots(rows: &[&[Line]; 4], ahead: &[&[Line]; 4], query: &Fine, lift: f64) -> [f64; 4] {
    let lines = query.high.len();
    let (pairs, upper) = (halves::pairs(lines), halves::upper(lines));
    let (high, low) = (&query.high[..lines], &query.low[..lines]);
    // slices of one known length: no check is left in the loop
    let rows = [&rows[0][..lines], &rows[1][..lines], &rows[2][..lines], &rows[3][..lines]];
    let ahead = [&ahead[0][..lines], &ahead[1][..lines], &ahead[2][..lines], &ahead[3][..lines]];
    let flip = _mm512_set1_epi8(-128);
    let (mut highs, mut lows) = ([_mm512_setzero_si512(); 4], [_mm512_setzero_si512(); 4]);
    // row by row: rows that follow each other in memory are read as one stream
    for row in 0..4 {
        let mut add = |line: usize, lifted: __m512i| {
            highs[row] = _mm512_dpbusd_epi32(highs[row], lifted, load_line(&high[line]));
            lows[row] = _mm512_dpbusd_epi32(lows[row], lifted, load_line(&low[line]));
        };
        for at in 0..pairs {
            fetch(&ahead[row][at]);
            fetch(&ahead[row][upper + at]);
            let [first, second] =
                joined_avx512(load_line(&rows[row][at]), load_line(&rows[row][upper + at]));
            add(2 * at, first);
            add(2 * at + 1, second);
        }
        for at in pairs..upper {
            fetch(&ahead[row][at]);
            add(pairs + at, _mm512_xor_si512(load_line(&rows[row][at]), flip));
        }
    }
    // integers below 2^53: exact in f64
    let (high, low) = (four_sums(highs), four_sums(lows));
    let sums = _mm256_fmadd_pd(high, _mm256_set1_pd(256.0), low);
    let mut out = [0.0; 4];
    // SAFETY: four writable f64; `storeu` asks for no alignment.
    unsafe { _mm256_storeu_pd(out.as_mut_ptr(), _mm256_sub_pd(sums, _mm256_set1_pd(lift))) };
    out
}

/// The pair of lines with these halves, lifted by 128.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn joined_avx512(upper: __m512i, lower: __m512i) -> [__m512i; 2] {
    // where the mask is set the bit of the first, else that of the second
    const CHOOSE: i32 = 0xE4;
    let mask = _mm512_set1_epi8(-16);
    [
        _mm512_ternarylogic_epi32::<CHOOSE>(_mm512_slli_epi16::<4>(upper), lower, mask),
        _mm512_ternarylogic_epi32::<CHOOSE>(upper, _mm512_srli_epi16::<4>(lower), mask),
    ]
}

/// The same for thirty-two components, without the lift.
#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn joined_avx2(upper: __m256i, lower: __m256i) -> [__m256i; 2] {
    let (mask, lift) = (_mm256_set1_epi8(-16), _mm256_set1_epi8(-128));
    let both = |above, below| {
        let parts = (_mm256_and_si256(above, mask), _mm256_andnot_si256(mask, below));
        _mm256_xor_si256(_mm256_or_si256(parts.0, parts.1), lift)
    };
    [both(_mm256_slli_epi16::<4>(upper), lower), both(upper, _mm256_srli_epi16::<4>(lower))]
}

/// The sums of the lanes of four vectors, by transposing while adding.
#[target_feature(enable = "avx512f,avx512vl")]
#[inline]
fn four_sums([a, b, c, d]: [__m512i; 4]) -> __m256d {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let abcd = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let half = _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64::<1>(abcd));
    _mm256_cvtepi32_pd(_mm_add_epi32(
        _mm256_castsi256_si128(half),
        _mm256_extracti128_si256::<1>(half),
    ))
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(in super::super) fn load_line(line: &Line) -> __m512i {
    // SAFETY: a line is sixty-four readable bytes, aligned to sixty-four.
    unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) }
}

/// One row at a time: this CPU family widens bytes and multiplies sixteen bits.
#[target_feature(enable = "avx2,fma")]
fn dots_avx2(rows: &[&[Line]], query: &Fine, out: &mut [f64]) {
    // A lane of a sum takes two products a line, each at most 127 * 32,639: 256 lines, the longest row, fit.
    let lines = query.wide.len();
    let (pairs, upper) = (halves::pairs(lines), halves::upper(lines));
    for (at, (row, out)) in rows.iter().zip(out).enumerate() {
        rows.get(at + Kernel::AHEAD).into_iter().for_each(|row| row.iter().for_each(fetch));
        let row = &row[..lines];
        let mut sums = [_mm256_setzero_si256(); 4];
        let mut add = |line: usize, codes: [__m256i; 2]| {
            let mut quarters = query.wide[line].as_chunks::<16>().0.iter();
            for (half, sums) in codes.into_iter().zip(sums.as_chunks_mut::<2>().0) {
                for (sum, (x, q)) in
                    sums.iter_mut().zip(widened(half).into_iter().zip(&mut quarters))
                {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, load_i16(q)));
                }
            }
        };
        for at in 0..pairs {
            let (above, below) = (parts(&row[at]), parts(&row[upper + at]));
            let (low, high) = (joined_avx2(above[0], below[0]), joined_avx2(above[1], below[1]));
            add(2 * at, [low[0], high[0]]);
            add(2 * at + 1, [low[1], high[1]]);
        }
        for (at, line) in row[pairs..upper].iter().enumerate() {
            add(2 * pairs + at, parts(line));
        }
        *out = sums.map(|sum| total_i32(sum)).iter().sum::<i64>() as f64;
    }
}

/// A line as two times thirty-two bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn parts(line: &Line) -> [__m256i; 2] {
    let at: *const __m256i = std::ptr::from_ref(line).cast();
    // SAFETY: a line is twice thirty-two readable bytes, aligned to sixty-four.
    unsafe { [_mm256_load_si256(at), _mm256_load_si256(at.add(1))] }
}

/// Thirty-two bytes as two times sixteen numbers of sixteen bits.
#[target_feature(enable = "avx2")]
#[inline]
fn widened(codes: __m256i) -> [__m256i; 2] {
    [
        _mm256_cvtepi8_epi16(_mm256_castsi256_si128(codes)),
        _mm256_cvtepi8_epi16(_mm256_extracti128_si256::<1>(codes)),
    ]
}

#[target_feature(enable = "avx2")]
fn total_i32(x: __m256i) -> i64 {
    store_i32(x).map(i64::from).iter().sum()
}

#[target_feature(enable = "avx2")]
fn load_i16(x: &[i16; 16]) -> __m256i {
    // SAFETY: thirty-two readable bytes; `loadu` asks for no alignment.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn store_i32(x: __m256i) -> [i32; 8] {
    let mut out = [0; 8];
    // SAFETY: thirty-two writable bytes; `storeu` asks for no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), x) };
    out
}

#[target_feature(enable = "avx512f")]
fn products_avx512(a: &[f32], b: &[f32]) -> (f64, f64) {
    let (mut dot, mut square) = ([_mm512_setzero_pd(); 2], [_mm512_setzero_pd(); 2]);
    let mut take = |a: &[f32; LANES], b: &[f32; LANES]| {
        let (a, b) = (halves_512(a), halves_512(b));
        for i in 0..2 {
            // the products are exact, so fusing changes no bit
            dot[i] = _mm512_fmadd_pd(a[i], b[i], dot[i]);
            square[i] = _mm512_fmadd_pd(b[i], b[i], square[i]);
        }
    };
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks(), b.as_chunks());
    a.iter().zip(b).for_each(|(a, b)| take(a, b));
    take(&padded(a_tail), &padded(b_tail));
    (fold(store_512(dot)), fold(store_512(square)))
}

#[target_feature(enable = "avx512f")]
fn squared_distance_avx512(a: &[f32], b: &[f32]) -> f64 {
    let mut sum = [_mm512_setzero_pd(); 2];
    let mut take = |a: &[f32; LANES], b: &[f32; LANES]| {
        let (a, b) = (halves_512(a), halves_512(b));
        for i in 0..2 {
            let apart = _mm512_sub_pd(a[i], b[i]);
            // not fused: the square is rounded, as in every other set
            sum[i] = _mm512_add_pd(sum[i], _mm512_mul_pd(apart, apart));
        }
    };
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks(), b.as_chunks());
    a.iter().zip(b).for_each(|(a, b)| take(a, b));
    take(&padded(a_tail), &padded(b_tail));
    fold(store_512(sum))
}

/// Sixteen f32 as two times eight f64.
#[target_feature(enable = "avx512f")]
fn halves_512(x: &[f32; LANES]) -> [__m512d; 2] {
    // SAFETY: sixteen readable floats; `loadu` asks for no alignment.
    let x: __m512 = unsafe { _mm512_loadu_ps(x.as_ptr()) };
    let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x)));
    [_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(upper)]
}

#[target_feature(enable = "avx512f")]
fn store_512(x: [__m512d; 2]) -> [f64; LANES] {
    let mut out = [0.0; LANES];
    for (part, x) in out.as_chunks_mut::<8>().0.iter_mut().zip(x) {
        // SAFETY: eight writable f64; `storeu` asks for no alignment.
        unsafe { _mm512_storeu_pd(part.as_mut_ptr(), x) };
    }
    out
}

#[target_feature(enable = "avx2,fma")]
fn products_avx2(a: &[f32], b: &[f32]) -> (f64, f64) {
    let (mut dot, mut square) = ([_mm256_setzero_pd(); 4], [_mm256_setzero_pd(); 4]);
    let mut take = |a: &[f32; LANES], b: &[f32; LANES]| {
        let (a, b) = (quarters_256(a), quarters_256(b));
        for i in 0..4 {
            // the products are exact, so fusing changes no bit
            dot[i] = _mm256_fmadd_pd(a[i], b[i], dot[i]);
            square[i] = _mm256_fmadd_pd(b[i], b[i], square[i]);
        }
    };
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks(), b.as_chunks());
    a.iter().zip(b).for_each(|(a, b)| take(a, b));
    take(&padded(a_tail), &padded(b_tail));
    (fold(store_256(dot)), fold(store_256(square)))
}

#[target_feature(enable = "avx2,fma")]
fn squared_distance_avx2(a: &[f32], b: &[f32]) -> f64 {
    let mut sum = [_mm256_setzero_pd(); 4];
    let mut take = |a: &[f32; LANES], b: &[f32; LANES]| {
        let (a, b) = (quarters_256(a), quarters_256(b));
        for i in 0..4 {
            let apart = _mm256_sub_pd(a[i], b[i]);
            // not fused: the square is rounded, as in every other set
            sum[i] = _mm256_add_pd(sum[i], _mm256_mul_pd(apart, apart));
        }
    };
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks(), b.as_chunks());
    a.iter().zip(b).for_each(|(a, b)| take(a, b));
    take(&padded(a_tail), &padded(b_tail));
    fold(store_256(sum))
}

/// Sixteen f32 as four times four f64.
#[target_feature(enable = "avx2")]
fn quarters_256(x: &[f32; LANES]) -> [__m256d; 4] {
    let [low, high] = [0, 8].map(|at| {
        let half: &[f32; 8] = x[at..].first_chunk().expect("eight of sixteen");
        // SAFETY: eight readable floats; `loadu` asks for no alignment.
        let half: __m256 = unsafe { _mm256_loadu_ps(half.as_ptr()) };
        [
            _mm256_cvtps_pd(_mm256_castps256_ps128(half)),
            _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(half)),
        ]
    });
    [low[0], low[1], high[0], high[1]]
}

#[target_feature(enable = "avx2")]
fn store_256(x: [__m256d; 4]) -> [f64; LANES] {
    let mut out = [0.0; LANES];
    for (part, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(x) {
        // SAFETY: four writable f64; `storeu` asks for no alignment.
        unsafe { _mm256_storeu_pd(part.as_mut_ptr(), x) };
    }
    out
}

#[target_feature(enable = "avx2")]
fn encode_avx2(vector: &[f32], codes: &mut [Line]) -> Shape {
    scalar::encode(vector, codes)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn encode_avx512(vector: &[f32], codes: &mut [Line]) -> Shape {
    scalar::encode(vector, codes)
}

#[target_feature(enable = "avx2")]
fn refine_avx2(query: &[f32], into: &mut Fine) {
    scalar::refine(query, into);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn refine_avx512(query: &[f32], into: &mut Fine) {
    scalar::refine(query, into);
}
