//! The matrix products of a training step beside OpenBLAS, on one thread: `cargo bench --bench gemm`.
//!
//! OpenBLAS is the one that numpy's wheel brings: found in `.venv-bench` (`bash benches/python/run` makes it), or where
//! `PRECEDENT_OPENBLAS` says. The two take turns, and what counts is the ratio of their CPU times, round by round.

#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::path::PathBuf;
use std::time::Duration;

use cpu_time::ThreadTime;
use libloading::Library;
use precedent_core::kernel::Isa;
use precedent_core::kernel::gemm::{Aligned, Gemm, Left, Start};

/// How a factor is laid out.
#[derive(Clone, Copy, PartialEq)]
enum Lies {
    Rows,
    Columns,
}

/// A product that the network makes: what of it, whether A lies in columns, rows, columns, depth.
const PRODUCTS: [(&str, Lies, [usize; 3]); 6] = [
    ("hidden units, a block of the input", Lies::Rows, [32, 256, 768]),
    ("outputs", Lies::Rows, [32, 768, 256]),
    ("way back to the hidden units", Lies::Rows, [256, 32, 768]),
    ("gradient of W1, two blocks", Lies::Columns, [1536, 256, 32]),
    ("gradient of W2", Lies::Columns, [256, 768, 32]),
    ("hidden units of 1,024 questions", Lies::Rows, [1024, 256, 768]),
];

const ROUNDS: usize = 41;
/// Multiplications in a round, at least.
const WORK: usize = 100_000_000;

type Sgemm = unsafe extern "C" fn(
    order: i32,
    trans_a: i32,
    trans_b: i32,
    m: i64,
    n: i64,
    k: i64,
    alpha: f32,
    a: *const f32,
    lda: i64,
    b: *const f32,
    ldb: i64,
    beta: f32,
    c: *mut f32,
    ldc: i64,
);

/// The library, if it is there.
fn openblas() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("PRECEDENT_OPENBLAS") {
        return Some(path.into());
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let python = std::fs::read_dir(root.join(".venv-bench/lib")).ok()?.next()?.ok()?.path();
    let libraries = std::fs::read_dir(python.join("site-packages/numpy.libs")).ok()?;
    let is_blas =
        |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().contains("openblas"));
    libraries.filter_map(|entry| Some(entry.ok()?.path())).find(is_blas)
}

/// Lying as a layer's weights and activations do.
fn numbers(n: usize) -> Aligned {
    let mut made = Aligned::zeros(n);
    for (i, number) in made.iter_mut().enumerate() {
        *number = ((i * 7919) % 1009) as f32 / 1009.0 - 0.5;
    }
    made
}

fn timed(times: usize, work: &mut dyn FnMut()) -> Duration {
    let began = ThreadTime::now();
    for _ in 0..times {
        work();
    }
    began.elapsed()
}

#[expect(unsafe_code, reason = "the peer's interface is C")]
fn main() {
    let path = openblas();
    let ours = Gemm::best();
    // Its kernels of the same instruction set: left alone it takes some machines for less than they are.
    let core = match ours.isa() {
        Isa::Avx512 => Some("SkylakeX"),
        Isa::Avx2 => Some("Haswell"),
        Isa::Neon | Isa::Scalar => None,
    };
    if let Some(core) = core {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("OPENBLAS_CORETYPE", core) };
    }
    // SAFETY: OpenBLAS does nothing unsound when it is loaded.
    let library = path.as_ref().map(|path| unsafe { Library::new(path) }.expect("it loads"));
    let sgemm = library.as_ref().map(|library| {
        // SAFETY: the types are those of OpenBLAS with 64-bit integers, as numpy builds it.
        let (threads, sgemm) = unsafe {
            let threads = library
                .get::<unsafe extern "C" fn(i32)>(b"scipy_openblas_set_num_threads64_")
                .expect("numpy's OpenBLAS");
            (threads, *library.get::<Sgemm>(b"scipy_cblas_sgemm64_").expect("numpy's OpenBLAS"))
        };
        // SAFETY: any positive number will do.
        unsafe { threads(1) };
        sgemm
    });
    println!("{:?}, one thread, median of {} rounds", ours.isa(), ROUNDS - 1);
    if sgemm.is_none() {
        println!("OpenBLAS is missing: no ratio");
    }
    println!(
        "| product | rows x columns x depth | GFLOPS | OpenBLAS | ratio (range of the middle half) |"
    );
    println!("|---|---|---|---|---|");
    for (name, lies, [m, n, k]) in PRODUCTS {
        let (a, b) = (numbers(m * k), numbers(k * n));
        let (mut c, mut theirs) = (vec![0.0; m * n], vec![0.0; m * n]);
        let times = (WORK / (m * n * k)).max(1);
        let flops = (2 * m * n * k * times) as f64;
        let left = match lies {
            Lies::Rows => Left::rows(&a, k),
            Lies::Columns => Left::transposed(&a, m, 0),
        };
        let (mut rates, mut peers, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mine = timed(times, &mut || ours.multiply(left, &b, n, &mut c, Start::Zero));
            rates.push(flops / mine.as_secs_f64() / 1e9);
            let Some(sgemm) = sgemm else { continue };
            let (transposed, stride) = if lies == Lies::Rows { (111, k) } else { (112, m) };
            let [m, n, k, stride] = [m, n, k, stride].map(|size| size as i64);
            // SAFETY: the strides describe whole matrices in rows, of these sizes.
            let his = timed(times, &mut || unsafe {
                sgemm(
                    101,
                    transposed,
                    111,
                    m,
                    n,
                    k,
                    1.0,
                    a.as_ptr(),
                    stride,
                    b.as_ptr(),
                    n,
                    0.0,
                    theirs.as_mut_ptr(),
                    n,
                );
            });
            peers.push(flops / his.as_secs_f64() / 1e9);
            ratios.push(his.as_secs_f64() / mine.as_secs_f64());
        }
        if sgemm.is_some() {
            let apart = c.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-3, "{name}: the products are {apart} apart");
        }
        println!(
            "| {name} | {m} x {n} x {k} | {:.0} | {} | {} |",
            quantile(&mut rates, 2),
            if peers.is_empty() {
                "missing".into()
            } else {
                format!("{:.0}", quantile(&mut peers, 2))
            },
            if ratios.is_empty() {
                String::new()
            } else {
                format!(
                    "{:.2} ({:.2} to {:.2})",
                    quantile(&mut ratios, 2),
                    quantile(&mut ratios, 1),
                    quantile(&mut ratios, 3)
                )
            }
        );
    }
}

/// The first, second or third quartile, without the first round, which warms up.
fn quantile(values: &mut [f64], quarter: usize) -> f64 {
    let counted = &mut values[1..];
    counted.sort_by(f64::total_cmp);
    counted[counted.len() * quarter / 4]
}
