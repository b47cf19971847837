//! Vectors that look like what stores hold.

use precedent_core::rng::Rng;

const LATENT: usize = 64;
const CLUSTERS: u64 = 400;
/// Length of the isotropic noise beside a unit vector.
const NOISE: f64 = 0.1;

/// Unit vectors of 400 clusters on a 64-dimensional manifold, as wide within a cluster as between them, with a little
/// noise off it: like the embeddings of sentences.
pub struct Clustered {
    dimension: usize,
    rng: Rng,
    basis: Vec<f32>,
}

impl Clustered {
    /// The manifold of a seed.
    pub fn new(dimension: usize, seed: u64) -> Self {
        let rng = Rng::new(seed, 0);
        let basis = (0..(LATENT * dimension) as u64).map(|i| rng.normal(i) as f32).collect();
        Self { dimension, rng, basis }
    }

    /// The vector with this number; other numbers give other vectors.
    pub fn vector(&self, number: u64) -> Vec<f32> {
        let own = self.rng.child(1).child(number);
        let centre = self.rng.child(2).child(own.below(0, CLUSTERS));
        let mut x = vec![0.0_f32; self.dimension];
        for (i, direction) in (0..).zip(self.basis.chunks(self.dimension)) {
            let share = (centre.normal(i) + own.normal(1 + i)) as f32;
            for (x, d) in x.iter_mut().zip(direction) {
                *x += share * d;
            }
        }
        unit(&mut x);
        let noise = (NOISE / (self.dimension as f64).sqrt()) as f32;
        for (i, x) in (1000..).zip(&mut x) {
            *x += noise * own.normal(i) as f32;
        }
        unit(&mut x);
        x
    }
}

/// A unit vector without any structure: the worst case of every index.
pub fn gaussian(dimension: usize, seed: u64, number: u64) -> Vec<f32> {
    let own = Rng::new(seed, 1).child(number);
    let mut x: Vec<f32> = (0..dimension as u64).map(|i| own.normal(i) as f32).collect();
    unit(&mut x);
    x
}

fn unit(x: &mut [f32]) {
    let length = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() as f32;
    for x in x {
        *x /= length;
    }
}
