//! AVX2 and AVX-512: tables are looked up by bytes.
#![expect(unsafe_code, reason = "vector loads and calls of functions for one CPU only")]

use std::arch::x86_64::{
    __m256, __m256i, __m512i, _CMP_LT_OQ, _mm256_add_epi8, _mm256_add_epi16, _mm256_add_ps,
    _mm256_and_si256, _mm256_castsi256_si128, _mm256_cmp_ps, _mm256_cvtepi32_ps,
    _mm256_cvtepu16_epi32, _mm256_extracti128_si256, _mm256_load_si256, _mm256_loadu_ps,
    _mm256_movemask_ps, _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16, _mm256_storeu_ps,
    _mm256_sub_epi32, _mm256_unpackhi_epi16, _mm256_unpacklo_epi16, _mm512_add_epi8,
    _mm512_add_epi16, _mm512_and_si512, _mm512_castsi512_si256, _mm512_extracti64x4_epi64,
    _mm512_load_si512, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_setzero_si512,
    _mm512_shuffle_epi8, _mm512_srli_epi16,
};

use super::super::Isa;
use super::super::distance::x86::{load_line, parts};
use super::{GROUP, Group, Kernel, LIFTED, SketchQuery};

/// The kernel for AVX2, if this CPU has it.
pub(super) fn avx2() -> Option<Kernel> {
    Isa::Avx2.runs().then_some(Kernel {
        // SAFETY: handed out only when this CPU has AVX2 and FMA.
        estimate: |group, query, bar, costs| unsafe { estimate_avx2(group, query, bar, costs) },
    })
}

/// The kernel for AVX-512 F, BW, VL and VNNI, if this CPU has them.
pub(super) fn avx512() -> Option<Kernel> {
    Isa::Avx512.runs().then_some(Kernel {
        // SAFETY: handed out only when this CPU has all four features.
        estimate: |group, query, bar, costs| unsafe { estimate_avx512(group, query, bar, costs) },
    })
}

/// Look-ups of two bytes of every row at once; four of them fit a byte before they are added in sixteen bits.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn estimate_avx512(
    group: &Group<'_>,
    query: &SketchQuery,
    bar: f32,
    costs: &mut [f32; GROUP],
) -> u32 {
    let (in_lower, in_even) = (_mm512_set1_epi8(15), _mm512_set1_epi16(255));
    let (mut even, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    let pairs = group.rows.0.as_chunks::<4>().0.iter().zip(query.tables.as_chunks::<2>().0);
    for (bytes, tables) in pairs {
        let mut sum = _mm512_setzero_si512();
        for (bytes, [lower, upper]) in bytes.as_chunks::<2>().0.iter().zip(tables) {
            // SAFETY: sixty-four readable bytes, aligned to sixty-four: the rows are, and these are the next of them.
            let bytes = unsafe { _mm512_load_si512(bytes.as_ptr().cast()) };
            let low = _mm512_and_si512(bytes, in_lower);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), in_lower);
            sum = _mm512_add_epi8(sum, _mm512_shuffle_epi8(load_line(lower), low));
            sum = _mm512_add_epi8(sum, _mm512_shuffle_epi8(load_line(upper), high));
        }
        even = _mm512_add_epi16(even, _mm512_and_si512(sum, in_even));
        odd = _mm512_add_epi16(odd, _mm512_srli_epi16::<8>(sum));
    }
    let folded =
        |x: __m512i| _mm256_add_epi16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x));
    costs_of(group, query.step, bar, [folded(even), folded(odd)], costs)
}

/// As [`estimate_avx512`], a byte of every row at a time.
#[target_feature(enable = "avx2,fma")]
fn estimate_avx2(
    group: &Group<'_>,
    query: &SketchQuery,
    bar: f32,
    costs: &mut [f32; GROUP],
) -> u32 {
    let (in_lower, in_even) = (_mm256_set1_epi8(15), _mm256_set1_epi16(255));
    let (mut even, mut odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for (bytes, [lower, upper]) in group.rows.0.as_chunks::<2>().0.iter().zip(&query.tables) {
        let mut sum = _mm256_setzero_si256();
        for ((bytes, lower), upper) in bytes.iter().zip(parts(lower)).zip(parts(upper)) {
            // SAFETY: thirty-two readable bytes, aligned to thirty-two: the rows are, and these are the next of them.
            let bytes = unsafe { _mm256_load_si256(bytes.as_ptr().cast()) };
            let low = _mm256_and_si256(bytes, in_lower);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), in_lower);
            sum = _mm256_add_epi8(sum, _mm256_shuffle_epi8(lower, low));
            sum = _mm256_add_epi8(sum, _mm256_shuffle_epi8(upper, high));
        }
        even = _mm256_add_epi16(even, _mm256_and_si256(sum, in_even));
        odd = _mm256_add_epi16(odd, _mm256_srli_epi16::<8>(sum));
    }
    costs_of(group, query.step, bar, [even, odd], costs)
}

/// Makes costs of the lifted sums of the even and of the odd rows.
#[target_feature(enable = "avx2")]
fn costs_of(
    group: &Group<'_>,
    step: f32,
    bar: f32,
    [even, odd]: [__m256i; 2],
    costs: &mut [f32; GROUP],
) -> u32 {
    // each has rows of the first half in its lower lane and of the second half in its upper one
    let [low, high] = [_mm256_unpacklo_epi16(even, odd), _mm256_unpackhi_epi16(even, odd)];
    let eights = [
        _mm256_castsi256_si128(low),
        _mm256_castsi256_si128(high),
        _mm256_extracti128_si256::<1>(low),
        _mm256_extracti128_si256::<1>(high),
    ];
    let [step, middle, bar] = [step, group.middle, bar].map(|x| _mm256_set1_ps(x));
    let mut near = 0;
    for (at, eight) in eights.into_iter().enumerate() {
        let sums = _mm256_sub_epi32(_mm256_cvtepu16_epi32(eight), _mm256_set1_epi32(LIFTED));
        let sums = _mm256_mul_ps(step, _mm256_cvtepi32_ps(sums));
        let times = eight_floats(&group.times.as_chunks::<8>().0[at]);
        let mut cost = _mm256_add_ps(middle, _mm256_mul_ps(times, sums));
        if let Some(plus) = group.plus {
            cost = _mm256_add_ps(cost, eight_floats(&plus.as_chunks::<8>().0[at]));
        }
        let below = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(cost, bar));
        near |= below.cast_unsigned() << (8 * at);
        let to = &mut costs.as_chunks_mut::<8>().0[at];
        // SAFETY: eight writable floats; `storeu` asks for no alignment.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), cost) };
    }
    near
}

#[target_feature(enable = "avx2")]
fn eight_floats(from: &[f32; 8]) -> __m256 {
    // SAFETY: eight readable floats; `loadu` asks for no alignment.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}
