//! Tiles of C in registers: 12 x 32 under AVX-512, 6 x 16 under AVX2. Each step of k loads one row of B's tile and
//! broadcasts one number of A for each row of C.

#![expect(
    unsafe_code,
    reason = "vector loads and stores, and calls of functions that need a CPU feature"
)]

use std::arch::x86_64::{
    __m256, __m256i, __m512, __mmask16, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch,
    _mm256_castsi256_ps, _mm256_cvtepu16_epi32, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_maskz_loadu_epi16,
    _mm256_movemask_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32, _mm256_storeu_ps,
    _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_slli_epi32, _mm512_storeu_ps,
};
use std::cell::Cell;
use std::hint::black_box;

use super::{Aligned, Bf16, Combination, Gemm, Isa, Product, Start};

pub(super) fn avx512() -> Option<Gemm> {
    Isa::Avx512.runs().then_some(Gemm {
        isa: Isa::Avx512,
        // SAFETY: the closures are handed out only when this CPU has the features.
        product: |product| unsafe { wide::product(product) },
        // SAFETY: as above.
        combination: |combination| unsafe { wide::combination(combination) },
        // SAFETY: as above.
        rounded: |combination| unsafe { wide::rounded(combination) },
    })
}

pub(super) fn avx2() -> Option<Gemm> {
    Isa::Avx2.runs().then_some(Gemm {
        isa: Isa::Avx2,
        // SAFETY: the closures are handed out only when this CPU has the features.
        product: |product| unsafe { narrow::product(product) },
        // SAFETY: as above.
        combination: |combination| unsafe { narrow::combination(combination) },
        // SAFETY: as above.
        rounded: |combination| unsafe { narrow::rounded(combination) },
    })
}

/// Rows of B that a pass over C reads: a tile's rows of A stay in the first-level cache from one tile to the next, a group's
/// columns of B in the second-level cache while all rows of A are multiplied with them.
const BLOCK: usize = 192;
/// The same where the part of B was copied together: C is passed over half as often, and a tile's columns still fit.
const PACKED_BLOCK: usize = 384;
/// Columns of B that all rows of A are multiplied with, one after the other.
const GROUP: usize = 256;
/// From so many rows of A on it pays to copy a group's columns of B to where those of a tile lie close together.
const PACKED: usize = 96;

thread_local! {
    /// Where a part of B is copied to: too much for the stacks of some threads.
    static PANELS: Cell<Aligned> = Cell::default();
}

/// How far ahead of its use a row of a weighted sum is fetched.
const AHEAD: usize = 6;

/// A part of B: `deep` rows from `done` on, the columns from `group` to `end`.
#[derive(Clone, Copy)]
struct Part {
    done: usize,
    deep: usize,
    group: usize,
    end: usize,
}

/// Where a tile lies. The pointers are good for all that `depth`, the strides and the tile's size reach.
#[derive(Clone, Copy)]
struct Tile {
    depth: usize,
    a: *const f32,
    row: usize,
    step: usize,
    b: *const f32,
    /// From one row of B to the next.
    apart: usize,
    c: *mut f32,
    columns: usize,
    zero: bool,
}

/// The functions of one vector width. They differ in nothing but the vectors they name.
macro_rules! kernels {
    (
        $module:ident, $features:literal, $vector:ty, $lanes:literal, $mask:ty, $mask_of:expr,
        $load:ident, $widen:ident, $load_all:ident, $widen_all:ident, $store:expr, $store_all:ident, $fma:ident, $broadcast:ident, $zero:ident,
        tiles: $rows:literal x $vectors:literal, lower: $($height:literal)*, strips: $strip:literal
    ) => {
        mod $module {
            use super::*;

            const LANES: usize = $lanes;
            /// Columns of a tile.
            const WIDTH: usize = $vectors * LANES;
            const _: () = assert!(GROUP.is_multiple_of(WIDTH), "a group is made of whole tiles");

            #[target_feature(enable = $features)]
            pub(super) fn product(mut product: Product<'_>) {
                let Product { rows, columns, depth, .. } = product;
                let block = if rows >= PACKED { PACKED_BLOCK } else { BLOCK };
                let mut done = 0;
                loop {
                    let deep = (depth - done).min(block);
                    for group in (0..columns).step_by(GROUP) {
                        let part = Part { done, deep, group, end: columns.min(group + GROUP) };
                        if rows >= PACKED {
                            packed(&mut product, part);
                        } else {
                            pass(&mut product, part, None);
                        }
                    }
                    done += deep;
                    if done == depth {
                        break;
                    }
                }
            }

            /// [`pass`] with the part of B copied together first, tile by tile.
            #[target_feature(enable = $features)]
            fn packed(product: &mut Product<'_>, part: Part) {
                let mut panels = PANELS.take();
                panels.resize((part.end - part.group).next_multiple_of(WIDTH) * part.deep);
                let (lines, _) = panels.as_chunks_mut::<WIDTH>();
                let rows = product.right[part.done * product.columns..].chunks(product.columns);
                for (k, row) in rows.take(part.deep).enumerate() {
                    for (nth, of_tile) in row[part.group..part.end].chunks(WIDTH).enumerate() {
                        lines[nth * part.deep + k] = match of_tile.first_chunk() {
                            Some(whole) => *whole, // of a length known beforehand
                            None => std::array::from_fn(|lane| of_tile.get(lane).copied().unwrap_or(0.0)),
                        };
                    }
                }
                pass(product, part, Some(&panels));
                PANELS.set(panels);
            }

            /// Adds to C what a part of B brings. `panels` holds that part, if it was copied: of each tile's columns
            /// `part.deep` rows, one tile's after the other's.
            #[target_feature(enable = $features)]
            fn pass(product: &mut Product<'_>, part: Part, panels: Option<&[f32]>) {
                let Product { rows, columns, left, right, ref mut target, start, .. } = *product;
                let block = &right[part.done * columns..];
                let mut i = 0;
                while i < rows {
                    // As equal as they can be: a tile of a row or two would wait for its own sums.
                    let high = (rows - i).div_ceil((rows - i).div_ceil($rows));
                    let a = i * left.row + part.done * left.step;
                    for (nth, j) in (part.group..part.end).step_by(WIDTH).enumerate() {
                        let wide = (part.end - j).min(WIDTH);
                        let (b, apart) = match panels {
                            Some(panels) => (panels[nth * part.deep * WIDTH..].as_ptr(), WIDTH),
                            None => (block.as_ptr().wrapping_add(j), columns),
                        };
                        let tile = Tile {
                            depth: part.deep,
                            a: left.values.as_ptr().wrapping_add(a),
                            row: left.row,
                            step: left.step,
                            b,
                            apart,
                            c: target.as_mut_ptr().wrapping_add(i * columns + j),
                            columns,
                            zero: part.done == 0 && start == Start::Zero,
                        };
                        // SAFETY: i < rows, j < columns and done <= depth: by the proof that `Product` carries `high`
                        // rows and `wide` columns from (i, j) lie inside C, and what the tile reads of A and B lies
                        // inside them, or was written to the panel that holds these columns of B.
                        unsafe { dispatch(tile, high, wide) };
                    }
                    i += high;
                }
            }

            /// # Safety
            ///
            /// `tile` covers `high` rows and `wide` columns.
            #[target_feature(enable = $features)]
            unsafe fn dispatch(tile: Tile, high: usize, wide: usize) {
                let vectors = wide.div_ceil(LANES);
                let mask = $mask_of(wide - (vectors - 1) * LANES);
                let whole = wide == $vectors * LANES;
                macro_rules! of {
                    ($r:literal) => {
                        match vectors {
                            // SAFETY: the tile covers $r rows and all of the vectors.
                            _ if whole => unsafe { tile_of::<$r, $vectors, true>(tile, mask) },
                            // SAFETY: the tile covers $r rows and this many vectors, the last one masked.
                            1 => unsafe { tile_of::<$r, 1, false>(tile, mask) },
                            // SAFETY: as above.
                            _ => unsafe { tile_of::<$r, 2, false>(tile, mask) },
                        }
                    };
                }
                match high {
                    $($height => of!($height),)*
                    _ => of!($rows),
                }
            }

            /// # Safety
            ///
            /// `tile` covers `R` rows and `V` vectors, the last one as far as `mask` says, or with `WHOLE` all of it.
            #[target_feature(enable = $features)]
            unsafe fn tile_of<const R: usize, const V: usize, const WHOLE: bool>(
                tile: Tile,
                mask: $mask,
            ) {
                let Tile { depth, a, row, step, mut b, apart, c, columns, zero } = tile;
                let masked = |v: usize| !WHOLE && v + 1 == V;
                let read = |from: *const f32, v: usize| {
                    let from = from.wrapping_add(v * LANES);
                    // SAFETY: the caller names a row of the tile, by this function's contract readable so far.
                    unsafe { if masked(v) { $load(from, mask) } else { $load_all(from) } }
                };
                let mut sums = [[$zero(); V]; R];
                if !zero {
                    for (r, sums) in sums.iter_mut().enumerate() {
                        for (v, sum) in sums.iter_mut().enumerate() {
                            *sum = read(c.wrapping_add(r * columns), v);
                        }
                    }
                }
                for r in 0..R {
                    for next in (V * LANES..2 * V * LANES).step_by(64 / size_of::<f32>()) {
                        // Mostly the next tile's part of C. A prefetch reads nothing: any address will do.
                        _mm_prefetch::<_MM_HINT_T0>(c.wrapping_add(r * columns + next).cast());
                    }
                }
                // What the compiler knows of how these rows follow on each other it uses to make each address from the
                // one before: a chain that takes longer than the sums.
                let rows: [*const f32; R] =
                    black_box(std::array::from_fn(|r| a.wrapping_add(r * row)));
                let mut at = 0;
                for _ in 0..depth {
                    let mut right = [$zero(); V];
                    for (v, right) in right.iter_mut().enumerate() {
                        *right = read(b, v);
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: row r of A at this step of k.
                        let factor = $broadcast(unsafe { *rows[r].add(at) });
                        for (sum, right) in sums.iter_mut().zip(right) {
                            *sum = $fma(factor, right, *sum);
                        }
                    }
                    at += step;
                    b = b.wrapping_add(apart);
                }
                for (r, sums) in sums.iter().enumerate() {
                    for (v, sum) in sums.iter().enumerate() {
                        let to = c.wrapping_add(r * columns + v * LANES);
                        // SAFETY: inside C by this function's contract.
                        unsafe {
                            if masked(v) { $store(to, mask, *sum) } else { $store_all(to, *sum) }
                        }
                    }
                }
            }

            #[target_feature(enable = $features)]
            pub(super) fn combination(combination: Combination<'_, f32>) {
                // SAFETY: `strip` names lanes of a row only, without a mask a whole vector of them.
                combined(combination, |from, mask| unsafe {
                    mask.map_or_else(|| $load_all(from), |mask| $load(from, mask))
                });
            }

            #[target_feature(enable = $features)]
            pub(super) fn rounded(combination: Combination<'_, Bf16>) {
                // SAFETY: as above.
                combined(combination, |from, mask| unsafe {
                    mask.map_or_else(|| $widen_all(from), |mask| $widen(from, mask))
                });
            }

            /// `load` reads the lanes that the mask names, all without one.
            #[target_feature(enable = $features)]
            fn combined<T>(
                combination: Combination<'_, T>,
                load: impl Fn(*const T, Option<$mask>) -> $vector + Copy,
            ) {
                let Combination { terms, rows, target } = combination;
                let columns = target.len();
                let mut j = 0;
                while j < columns {
                    let wide = (columns - j).min($strip * LANES);
                    let (vectors, rest) = (wide / LANES, wide % LANES);
                    let mask = $mask_of(rest.max(1));
                    let (b, c) =
                        (rows.as_ptr().wrapping_add(j), target.as_mut_ptr().wrapping_add(j));
                    // SAFETY: these columns from j on lie inside the target and, by the proof that `Combination`
                    // carries, inside every row that a term names.
                    j += unsafe {
                        match vectors {
                            $strip => strip::<$strip, true, T>(terms, b, c, columns, mask, load),
                            4.. => strip::<4, true, T>(terms, b, c, columns, mask, load),
                            3 => strip::<3, true, T>(terms, b, c, columns, mask, load),
                            2 => strip::<2, true, T>(terms, b, c, columns, mask, load),
                            1 => strip::<1, true, T>(terms, b, c, columns, mask, load),
                            _ => strip::<1, false, T>(terms, b, c, columns, mask, load),
                        }
                    }
                    .min(wide);
                }
            }

            /// Sums `V` vectors of the rows that `terms` names; says how many columns that were at most.
            ///
            /// # Safety
            ///
            /// `c`, and `b` plus a row's index times `columns`, are good for `V` vectors, the last one as far as `mask`
            /// says, or with `WHOLE` all of it.
            #[target_feature(enable = $features)]
            unsafe fn strip<const V: usize, const WHOLE: bool, T>(
                terms: &[(u32, f32)],
                b: *const T,
                c: *mut f32,
                columns: usize,
                mask: $mask,
                load: impl Fn(*const T, Option<$mask>) -> $vector,
            ) -> usize {
                let masked = |v: usize| !WHOLE && v + 1 == V;
                let mut sums = [$zero(); V];
                for (v, sum) in sums.iter_mut().enumerate() {
                    let from = c.wrapping_add(v * LANES);
                    // SAFETY: inside the target by this function's contract.
                    *sum = unsafe { if masked(v) { $load(from, mask) } else { $load_all(from) } };
                }
                for (at, &(index, value)) in terms.iter().enumerate() {
                    if let Some(&(next, _)) = terms.get(at + AHEAD) {
                        let next = b.wrapping_add(next as usize * columns);
                        for line in (0..V * LANES).step_by(64 / size_of::<T>()) {
                            // A prefetch reads nothing: any address will do.
                            _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(line).cast());
                        }
                    }
                    let (row, factor) =
                        (b.wrapping_add(index as usize * columns), $broadcast(value));
                    for (v, sum) in sums.iter_mut().enumerate() {
                        // Inside the row by this function's contract.
                        let row = load(row.wrapping_add(v * LANES), masked(v).then_some(mask));
                        *sum = $fma(factor, row, *sum);
                    }
                }
                for (v, sum) in sums.iter().enumerate() {
                    let to = c.wrapping_add(v * LANES);
                    // SAFETY: inside the target by this function's contract.
                    unsafe { if masked(v) { $store(to, mask, *sum) } else { $store_all(to, *sum) } };
                }
                V * LANES
            }
        }
    };
}

kernels!(
    wide, "avx512f,avx512bw,avx512vl", __m512, 16, __mmask16, lanes_of_16,
    load_16, widen_16, _mm512_loadu_ps, widen_all_16, store_16, _mm512_storeu_ps, _mm512_fmadd_ps, _mm512_set1_ps, _mm512_setzero_ps,
    tiles: 12 x 2, lower: 1 2 3 4 5 6 7 8 9 10 11, strips: 16
);

kernels!(
    narrow, "avx2,fma", __m256, 8, __m256i, lanes_of_8,
    load_8, widen_8, _mm256_loadu_ps, widen_all_8, store_8, _mm256_storeu_ps, _mm256_fmadd_ps, _mm256_set1_ps, _mm256_setzero_ps,
    tiles: 6 x 2, lower: 1 2 3 4 5, strips: 12
);

fn lanes_of_16(lanes: usize) -> __mmask16 {
    u16::MAX >> (16 - lanes)
}

/// # Safety
///
/// The lanes that `mask` names are readable.
#[target_feature(enable = "avx512f")]
unsafe fn load_16(from: *const f32, mask: __mmask16) -> __m512 {
    // SAFETY: lanes outside the mask are not touched, and `loadu` asks for no alignment.
    unsafe { _mm512_maskz_loadu_ps(mask, from) }
}

/// # Safety
///
/// The lanes that `mask` names are writable.
#[target_feature(enable = "avx512f")]
unsafe fn store_16(to: *mut f32, mask: __mmask16, values: __m512) {
    // SAFETY: lanes outside the mask are not touched, and `storeu` asks for no alignment.
    unsafe { _mm512_mask_storeu_ps(to, mask, values) }
}

/// # Safety
///
/// The lanes that `mask` names are readable.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn widen_16(from: *const Bf16, mask: __mmask16) -> __m512 {
    // SAFETY: lanes outside the mask are not touched, and `loadu` asks for no alignment.
    wider_16(unsafe { _mm256_maskz_loadu_epi16(mask, from.cast()) })
}

/// # Safety
///
/// Sixteen numbers are readable.
#[target_feature(enable = "avx512f")]
unsafe fn widen_all_16(from: *const Bf16) -> __m512 {
    // SAFETY: `loadu` asks for no alignment.
    wider_16(unsafe { _mm256_loadu_si256(from.cast()) })
}

#[target_feature(enable = "avx512f")]
fn wider_16(halves: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
}

#[target_feature(enable = "avx2")]
fn lanes_of_8(lanes: usize) -> __m256i {
    const LANES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let from: &[i32; 8] = LANES[8 - lanes..].first_chunk().expect("between 1 and 8 lanes");
    // SAFETY: eight readable integers; `loadu` asks for no alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

/// # Safety
///
/// The lanes that `mask` names are readable.
#[target_feature(enable = "avx2")]
unsafe fn load_8(from: *const f32, mask: __m256i) -> __m256 {
    // SAFETY: lanes outside the mask are not touched, and `maskload` asks for no alignment.
    unsafe { _mm256_maskload_ps(from, mask) }
}

/// # Safety
///
/// The lanes that `mask` names are writable.
#[target_feature(enable = "avx2")]
unsafe fn store_8(to: *mut f32, mask: __m256i, values: __m256) {
    // SAFETY: lanes outside the mask are not touched, and `maskstore` asks for no alignment.
    unsafe { _mm256_maskstore_ps(to, mask, values) }
}

/// # Safety
///
/// The lanes that `mask` names are readable.
#[target_feature(enable = "avx2")]
unsafe fn widen_8(from: *const Bf16, mask: __m256i) -> __m256 {
    let lanes = _mm256_movemask_ps(_mm256_castsi256_ps(mask)).count_ones() as usize;
    let mut padded = [Bf16::default(); 8];
    // SAFETY: a mask names the first lanes, and those are readable.
    padded[..lanes].copy_from_slice(unsafe { std::slice::from_raw_parts(from, lanes) });
    // SAFETY: eight numbers.
    unsafe { widen_all_8(padded.as_ptr()) }
}

/// # Safety
///
/// Eight numbers are readable.
#[target_feature(enable = "avx2")]
unsafe fn widen_all_8(from: *const Bf16) -> __m256 {
    // SAFETY: `loadu` asks for no alignment.
    let halves = unsafe { _mm_loadu_si128(from.cast()) };
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
}
