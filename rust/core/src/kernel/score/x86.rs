//! AVX2 and AVX-512 (with VNNI).
#![expect(unsafe_code, reason = "vector loads and calls of functions for one CPU only")]

use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512, __m512i, _MM_HINT_T0, _mm_add_epi32, _mm_prefetch,
    _mm_storeu_si128, _mm256_abs_epi8, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256,
    _mm256_castsi256_si128, _mm256_cmpeq_epi8, _mm256_extracti128_si256, _mm256_fmadd_ps,
    _mm256_load_ps, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_setr_epi8, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sign_epi8, _mm256_srli_epi16,
    _mm256_storeu_ps, _mm256_sub_ps, _mm512_add_epi32, _mm512_and_si512, _mm512_andnot_si512,
    _mm512_castsi512_si256, _mm512_dpbusd_epi32, _mm512_extracti64x4_epi64, _mm512_fmadd_ps,
    _mm512_load_ps, _mm512_maskz_mov_epi8, _mm512_reduce_add_ps, _mm512_set1_epi8,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi32, _mm512_sub_ps,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    _mm512_xor_si512,
};

use super::super::distance::Line;
use super::super::distance::x86::{joined_avx2, joined_avx512, load_line, parts};
use super::super::halves;
use super::{AHEAD, Isa, Kernel, LIFT};

/// The kernels for AVX2 and FMA, if this CPU has them.
pub(super) fn avx2() -> Option<Kernel> {
    Isa::Avx2.runs().then_some(Kernel {
        // SAFETY: handed out only when this CPU has both features; so are the next five.
        join: |code, into| unsafe { join_avx2(code, into) },
        // SAFETY: as above.
        bytes: |rows, query, out| unsafe { bytes_avx2(rows, query, out) },
        // SAFETY: as above.
        uppers: |rows, query, out| unsafe { uppers_avx2(rows, query, out) },
        // SAFETY: as above.
        signs: |rows, query, out| unsafe { signs_avx2(rows, query, out) },
        // SAFETY: as above.
        products: |rows, query, out| unsafe { floats_avx2::<false>(rows, query, out) },
        // SAFETY: as above.
        squares: |rows, query, out| unsafe { floats_avx2::<true>(rows, query, out) },
    })
}

/// The kernels for AVX-512 F, BW, VL and VNNI, if this CPU has them.
pub(super) fn avx512() -> Option<Kernel> {
    Isa::Avx512.runs().then_some(Kernel {
        // SAFETY: handed out only when this CPU has all four features; so are the next five.
        join: |code, into| unsafe { join_avx512(code, into) },
        // SAFETY: as above.
        bytes: |rows, query, out| unsafe { bytes_avx512(rows, query, out) },
        // SAFETY: as above.
        uppers: |rows, query, out| unsafe { uppers_avx512(rows, query, out) },
        // SAFETY: as above.
        signs: |rows, query, out| unsafe { signs_avx512(rows, query, out) },
        // SAFETY: as above.
        products: |rows, query, out| unsafe { floats_avx512::<false>(rows, query, out) },
        // SAFETY: as above.
        squares: |rows, query, out| unsafe { floats_avx512::<true>(rows, query, out) },
    })
}

/// Asks for every cache line of `bytes` bytes.
pub(super) fn fetch(start: *const i8, bytes: usize) {
    for at in (0..bytes).step_by(Line::LEN) {
        // SAFETY: a prefetch of any address changes nothing that a program can see, and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at)) }
    }
}

/// Slices of one known length: no check is left in a loop over them.
#[expect(clippy::inline_always, reason = "the lengths have to be known to its caller's loop")]
#[inline(always)]
fn cut<'a>(rows: &[&'a [Line]; 4], lines: usize) -> [&'a [Line]; 4] {
    [&rows[0][..lines], &rows[1][..lines], &rows[2][..lines], &rows[3][..lines]]
}

#[expect(clippy::inline_always, reason = "one instruction")]
#[inline(always)]
fn ask(line: &Line) {
    // SAFETY: as above.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(line).cast()) }
}

/// Calls `score` for four rows at a time, with the four whose turn comes later, the last ones filled up with a row that is there already.
#[expect(clippy::inline_always, reason = "it has to be compiled for its caller's registers")]
#[inline(always)]
fn by_fours<T: Copy + Default>(
    rows: &[&[Line]],
    out: &mut [T],
    mut score: impl FnMut(&[&[Line]; 4], &[&[Line]; 4]) -> [T; 4],
) {
    let (groups, rest) = rows.as_chunks::<4>();
    let (outs, out_rest) = out.as_chunks_mut::<4>();
    for (at, (group, out)) in groups.iter().zip(outs).enumerate() {
        *out = score(group, groups.get(at + AHEAD / 4).unwrap_or(group));
    }
    if let Some(&first) = rest.first() {
        let mut group = [first; 4];
        group[..rest.len()].copy_from_slice(rest);
        out_rest.copy_from_slice(&score(&group, &group)[..rest.len()]);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn join_avx512(code: &[Line], into: &mut Vec<Line>) {
    halves::join(code, into);
}

#[target_feature(enable = "avx2")]
fn join_avx2(code: &[Line], into: &mut Vec<Line>) {
    halves::join(code, into);
}

/// VNNI multiplies unsigned by signed bytes, so codes are lifted by 128, which the query's sum undoes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn bytes_avx512(rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
    let lines = query.len();
    let (pairs, upper) = (halves::pairs(lines), halves::upper(lines));
    let flip = _mm512_set1_epi8(-128);
    let lift = times_avx512(flip, query);
    by_fours(rows, out, |rows, ahead| {
        let (rows, ahead) = (cut(rows, lines), cut(ahead, lines));
        let mut sums = [_mm512_setzero_si512(); 4];
        for at in 0..pairs {
            let (first, second) = (load_line(&query[2 * at]), load_line(&query[2 * at + 1]));
            for row in 0..4 {
                ask(&ahead[row][at]);
                ask(&ahead[row][upper + at]);
                let lifted =
                    joined_avx512(load_line(&rows[row][at]), load_line(&rows[row][upper + at]));
                sums[row] = _mm512_dpbusd_epi32(sums[row], lifted[0], first);
                sums[row] = _mm512_dpbusd_epi32(sums[row], lifted[1], second);
            }
        }
        for at in pairs..upper {
            let q = load_line(&query[pairs + at]);
            for row in 0..4 {
                ask(&ahead[row][at]);
                let lifted = _mm512_xor_si512(load_line(&rows[row][at]), flip);
                sums[row] = _mm512_dpbusd_epi32(sums[row], lifted, q);
            }
        }
        store(four_sums(sums)).map(|sum| sum - lift)
    });
}

/// Halves have no sign, so they are multiplied as they are; those in the upper bits stay there and count sixteen times.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn uppers_avx512(rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
    let pairs = halves::pairs(query.len());
    let upper = halves::upper(query.len());
    let (flip, in_lower) = (_mm512_set1_epi8(-128), _mm512_set1_epi8(15));
    let (split, whole) = query.split_at(2 * pairs);
    let ones = _mm512_set1_epi8(1);
    let lift = LIFT * times_avx512(ones, split) + 2 * times_avx512(flip, whole);
    by_fours(rows, out, |rows, _| {
        let rows = cut(rows, upper);
        let (mut sums, mut sixteenths) = ([_mm512_setzero_si512(); 4], [_mm512_setzero_si512(); 4]);
        for at in 0..pairs {
            let (first, second) = (load_line(&split[2 * at]), load_line(&split[2 * at + 1]));
            for row in 0..4 {
                let both = load_line(&rows[row][at]);
                let low = _mm512_and_si512(both, in_lower);
                sixteenths[row] = _mm512_dpbusd_epi32(sixteenths[row], low, first);
                let high = _mm512_andnot_si512(in_lower, both);
                sums[row] = _mm512_dpbusd_epi32(sums[row], high, second);
            }
        }
        for at in pairs..upper {
            let q = load_line(&query[pairs + at]);
            for row in 0..4 {
                let lifted = _mm512_xor_si512(load_line(&rows[row][at]), flip);
                sums[row] = _mm512_dpbusd_epi32(sums[row], lifted, q);
            }
        }
        for row in 0..4 {
            sums[row] = _mm512_add_epi32(sums[row], _mm512_slli_epi32::<4>(sixteenths[row]));
        }
        store(four_sums(sums)).map(|sum| 2 * sum - lift)
    });
}

/// The sum of a query's components, each times the unsigned byte that `every` is made of.
#[target_feature(enable = "avx512f,avx512vl,avx512vnni")]
fn times_avx512(every: __m512i, query: &[Line]) -> i32 {
    let mut sum = _mm512_setzero_si512();
    for line in query {
        sum = _mm512_dpbusd_epi32(sum, every, load_line(line));
    }
    store(four_sums([sum; 4]))[0]
}

/// A row's bits pick bytes of the query; twice what they pick, less everything.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn signs_avx512(rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
    let ones = _mm512_set1_epi8(1);
    let all = times_avx512(ones, query);
    by_fours(rows, out, |rows, ahead| {
        for row in ahead {
            fetch(row.as_ptr().cast(), size_of_val(*row));
        }
        let mut sums = [_mm512_setzero_si512(); 4];
        for (at, line) in query.iter().enumerate() {
            let q = load_line(line);
            for row in 0..4 {
                let picked = _mm512_maskz_mov_epi8(word(rows[row], at), q);
                sums[row] = _mm512_dpbusd_epi32(sums[row], ones, picked);
            }
        }
        store(four_sums(sums)).map(|sum| 2 * sum - all)
    });
}

/// The bits that go with line `at` of a query.
#[expect(clippy::inline_always, reason = "it has to be compiled for its caller's registers")]
#[inline(always)]
fn word(row: &[Line], at: usize) -> u64 {
    let bytes = row[at / 8].0.as_chunks::<8>().0[at % 8];
    u64::from_le_bytes(bytes.map(i8::cast_unsigned))
}

/// Sums of products, or of squared differences.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn floats_avx512<const SQUARES: bool>(rows: &[&[Line]], query: &[Line], out: &mut [f32]) {
    let lines = query.len();
    by_fours(rows, out, |rows, ahead| {
        let (rows, ahead) = (cut(rows, lines), cut(ahead, lines));
        let mut sums = [_mm512_setzero_ps(); 4];
        for line in 0..lines {
            let q = load_floats(&query[line]);
            for row in 0..4 {
                ask(&ahead[row][line]);
                let x = load_floats(&rows[row][line]);
                let (x, y) = if SQUARES {
                    let apart = _mm512_sub_ps(x, q);
                    (apart, apart)
                } else {
                    (x, q)
                };
                sums[row] = _mm512_fmadd_ps(x, y, sums[row]);
            }
        }
        sums.map(|sum| _mm512_reduce_add_ps(sum))
    });
}

#[target_feature(enable = "avx512f")]
fn load_floats(line: &Line) -> __m512 {
    // SAFETY: a line is sixteen readable floats (any bits are one), aligned to sixty-four.
    unsafe { _mm512_load_ps(std::ptr::from_ref(line).cast()) }
}

/// The sums of the lanes of four vectors, by transposing while adding.
#[target_feature(enable = "avx512f,avx512vl")]
fn four_sums([a, b, c, d]: [__m512i; 4]) -> __m128i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let abcd = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let half = _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64::<1>(abcd));
    _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
}

#[target_feature(enable = "sse2")]
fn store(x: __m128i) -> [i32; 4] {
    let mut out = [0; 4];
    // SAFETY: sixteen writable bytes; `storeu` asks for no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), x) };
    out
}

/// Unsigned by signed bytes into sixteen bits: 2 * 127 * 127 does not saturate.
#[target_feature(enable = "avx2,fma")]
fn bytes_avx2(rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
    let (pairs, upper) = (halves::pairs(query.len()), halves::upper(query.len()));
    for (at, (row, out)) in rows.iter().zip(out).enumerate() {
        rows.get(at + AHEAD).inspect(|row| fetch(row.as_ptr().cast(), size_of_val(**row)));
        let mut sum = _mm256_setzero_si256();
        for at in 0..pairs {
            let (above, below) = (parts(&row[at]), parts(&row[upper + at]));
            let (first, second) = (parts(&query[2 * at]), parts(&query[2 * at + 1]));
            for part in 0..2 {
                let codes = joined_avx2(above[part], below[part]);
                sum = add_signed(add_signed(sum, codes[0], first[part]), codes[1], second[part]);
            }
        }
        *out = sum_lanes(add_whole(sum, &row[pairs..upper], &query[2 * pairs..]));
    }
}

#[target_feature(enable = "avx2,fma")]
fn uppers_avx2(rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
    let (ones, pairs) = (_mm256_set1_epi8(1), halves::pairs(query.len()));
    let in_lower = _mm256_set1_epi8(15);
    let (split, whole) = query.split_at(2 * pairs);
    let mut lift = _mm256_setzero_si256();
    for q in split.iter().flat_map(|line| parts(line)) {
        lift = add_unsigned(lift, ones, q);
    }
    let lift = LIFT * sum_lanes(lift);
    for (row, out) in rows.iter().zip(out) {
        let mut sum = _mm256_setzero_si256();
        for (line, asked) in row[..pairs].iter().zip(split.as_chunks::<2>().0) {
            let (first, second) = (parts(&asked[0]), parts(&asked[1]));
            for (part, both) in parts(line).into_iter().enumerate() {
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(both), in_lower);
                sum = add_unsigned(sum, _mm256_and_si256(both, in_lower), first[part]);
                sum = add_unsigned(sum, high, second[part]);
            }
        }
        let rest = add_whole(_mm256_setzero_si256(), &row[pairs..], whole);
        *out = 32 * sum_lanes(sum) - lift + 2 * sum_lanes(rest);
    }
}

/// Adds the products of lines of signed bytes.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add_whole(mut sum: __m256i, lines: &[Line], query: &[Line]) -> __m256i {
    for (line, q) in lines.iter().zip(query) {
        for (x, q) in parts(line).into_iter().zip(parts(q)) {
            sum = add_signed(sum, x, q);
        }
    }
    sum
}

#[target_feature(enable = "avx2")]
#[inline]
fn add_signed(sum: __m256i, x: __m256i, q: __m256i) -> __m256i {
    add_unsigned(sum, _mm256_abs_epi8(x), _mm256_sign_epi8(q, x))
}

/// Adds products of bytes without a sign, of which two fit sixteen bits, and bytes with one.
#[target_feature(enable = "avx2")]
#[inline]
fn add_unsigned(sum: __m256i, x: __m256i, q: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(x, q);
    _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

#[target_feature(enable = "avx2,fma")]
fn signs_avx2(rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
    let (ones, pairs) = (_mm256_set1_epi8(1), _mm256_set1_epi16(1));
    // lane i looks at byte i / 8 of the row's bits, and there at bit i % 8
    let spread = _mm256_setr_epi8(
        0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, //
        2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3,
    );
    let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
    let add = |sum: __m256i, x: __m256i| {
        _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(ones, x), pairs))
    };
    let mut sum = _mm256_setzero_si256();
    for q in query {
        let [low, high] = parts(q);
        sum = add(add(sum, low), high);
    }
    let all = sum_lanes(sum);
    for (at, (row, out)) in rows.iter().zip(out).enumerate() {
        rows.get(at + AHEAD).inspect(|row| fetch(row.as_ptr().cast(), size_of_val(**row)));
        let mut sum = _mm256_setzero_si256();
        for (at, q) in query.iter().enumerate() {
            let word = word(row, at);
            for (half, q) in [word as i32, (word >> 32) as i32].into_iter().zip(parts(q)) {
                let picked = _mm256_shuffle_epi8(_mm256_set1_epi32(half), spread);
                let mask = _mm256_cmpeq_epi8(_mm256_and_si256(picked, bits), bits);
                sum = add(sum, _mm256_and_si256(mask, q));
            }
        }
        *out = 2 * sum_lanes(sum) - all;
    }
}

#[target_feature(enable = "avx2,fma")]
fn floats_avx2<const SQUARES: bool>(rows: &[&[Line]], query: &[Line], out: &mut [f32]) {
    for (at, (row, out)) in rows.iter().zip(out).enumerate() {
        rows.get(at + AHEAD).inspect(|row| fetch(row.as_ptr().cast(), size_of_val(**row)));
        let mut sums = [_mm256_setzero_ps(); 2];
        for (line, q) in row.iter().zip(query) {
            for ((sum, x), q) in sums.iter_mut().zip(float_halves(line)).zip(float_halves(q)) {
                let (x, y) = if SQUARES {
                    let apart = _mm256_sub_ps(x, q);
                    (apart, apart)
                } else {
                    (x, q)
                };
                *sum = _mm256_fmadd_ps(x, y, *sum);
            }
        }
        let mut lanes = [0.0; 8];
        // SAFETY: eight writable floats; `storeu` asks for no alignment.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), _mm256_add_ps(sums[0], sums[1])) };
        *out = lanes.iter().sum();
    }
}

#[target_feature(enable = "avx2")]
fn float_halves(line: &Line) -> [__m256; 2] {
    let at: *const f32 = std::ptr::from_ref(line).cast();
    // SAFETY: a line is twice eight readable floats (any bits are one), aligned to sixty-four.
    unsafe { [_mm256_load_ps(at), _mm256_load_ps(at.add(8))] }
}

#[target_feature(enable = "avx2")]
fn sum_lanes(x: __m256i) -> i32 {
    store(_mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x))).iter().sum()
}
