//! The network once more, in f64 and in the plainest way: what the fast one is tested against.

use precedent_core::nn::{Batch, DecisionLayer, LayerSettings, Optimizer, Questions};
use precedent_core::rng::Rng;

/// A network, its gradient, or a moment of one: four blocks of f64.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    pub(crate) w1: Vec<f64>,
    pub(crate) b1: Vec<f64>,
    pub(crate) w2: Vec<f64>,
    pub(crate) b2: Vec<f64>,
}

impl Blocks {
    pub(crate) fn of(layer: &DecisionLayer) -> Self {
        let [w1, b1, w2, b2] =
            layer.weights().map(|part| part.iter().map(|x| f64::from(*x)).collect());
        Self { w1, b1, w2, b2 }
    }

    pub(crate) fn zeros(&self) -> Self {
        let zeros = |part: &Vec<f64>| vec![0.0; part.len()];
        Self { w1: zeros(&self.w1), b1: zeros(&self.b1), w2: zeros(&self.w2), b2: zeros(&self.b2) }
    }

    /// The blocks with their names, biases marked.
    pub(crate) fn parts(&self) -> [(&'static str, bool, &Vec<f64>); 4] {
        [
            ("W1", false, &self.w1),
            ("b1", true, &self.b1),
            ("W2", false, &self.w2),
            ("b2", true, &self.b2),
        ]
    }

    pub(crate) fn parts_mut(&mut self) -> [&mut Vec<f64>; 4] {
        [&mut self.w1, &mut self.b1, &mut self.w2, &mut self.b2]
    }

    pub(crate) fn norm(&self) -> f64 {
        self.parts().iter().flat_map(|part| part.2).map(|x| x * x).sum::<f64>().sqrt()
    }

    /// The hidden units (after the ReLU) and the outputs for one input.
    pub(crate) fn forward(&self, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let layer = |x: &[f64], w: &[f64], b: &[f64]| -> Vec<f64> {
            let product =
                |j: usize| x.iter().enumerate().map(|(i, x)| x * w[i * b.len() + j]).sum::<f64>();
            b.iter().enumerate().map(|(j, b)| b + product(j)).collect()
        };
        let hidden: Vec<_> = layer(x, &self.w1, &self.b1).into_iter().map(|h| h.max(0.0)).collect();
        let output = layer(&hidden, &self.w2, &self.b2);
        (hidden, output)
    }

    /// The loss of samples `(input, target, share)`.
    pub(crate) fn loss(&self, samples: &[Sample]) -> f64 {
        let error = |s: &Sample| {
            let (_, output) = self.forward(&s.x);
            let squares = output.iter().zip(&s.y).map(|(o, y)| (o - y).powi(2)).sum::<f64>();
            s.share * squares / s.y.len() as f64
        };
        samples.iter().map(error).sum()
    }

    /// The loss's gradient, by the chain rule.
    pub(crate) fn gradient(&self, samples: &[Sample]) -> Self {
        let mut gradient = self.zeros();
        for Sample { x, y, share } in samples {
            let (hidden, output) = self.forward(x);
            let width = y.len() as f64;
            let d_output: Vec<_> =
                output.iter().zip(y).map(|(o, y)| 2.0 * share * (o - y) / width).collect();
            for (j, d) in d_output.iter().enumerate() {
                gradient.b2[j] += d;
            }
            for (i, h) in hidden.iter().enumerate() {
                let mut d_hidden = 0.0;
                for (j, d) in d_output.iter().enumerate() {
                    gradient.w2[i * y.len() + j] += h * d;
                    d_hidden += self.w2[i * y.len() + j] * d;
                }
                if *h > 0.0 {
                    gradient.b1[i] += d_hidden;
                    for (k, x) in x.iter().enumerate() {
                        gradient.w1[k * hidden.len() + i] += x * d_hidden;
                    }
                }
            }
        }
        gradient
    }
}

/// One sample as the network sees it.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) x: Vec<f64>,
    pub(crate) y: Vec<f64>,
    pub(crate) share: f64,
}

/// What a batch is to the twin; the inputs are the layer's own.
pub(crate) fn samples(layer: &DecisionLayer, batch: &Batch<'_>) -> Vec<Sample> {
    let inputs = layer.inputs(&batch.questions).unwrap();
    let width = layer.settings().action_size;
    let n = batch.actions.len() / width;
    let weights: Vec<f64> =
        batch.weights.map_or(vec![1.0; n], |w| w.iter().map(|w| f64::from(*w)).collect());
    let total: f64 = weights.iter().sum();
    let wide = |row: &[f32]| row.iter().map(|x| f64::from(*x)).collect();
    let rows = inputs.chunks_exact(layer.settings().input_size());
    rows.zip(batch.actions.chunks_exact(width))
        .zip(weights)
        .map(|((x, y), w)| Sample { x: wide(x), y: wide(y), share: w / total })
        .collect()
}

/// The optimizers, as their papers and the specification have them.
pub(crate) struct Descent {
    settings: LayerSettings,
    steps: i32,
    first: Blocks,
    second: Blocks,
}

impl Descent {
    pub(crate) fn new(layer: &DecisionLayer) -> Self {
        let zeros = Blocks::of(layer).zeros();
        let settings = layer.settings().clone();
        Self { settings, steps: 0, first: zeros.clone(), second: zeros }
    }

    pub(crate) fn step(&mut self, network: &mut Blocks, gradient: &Blocks) {
        self.steps += 1;
        let Self { settings, steps, first, second } = self;
        let scale = settings.clip_norm.map_or(1.0, |most| (most / gradient.norm()).min(1.0));
        let (rate, decay) = (settings.learning_rate, settings.weight_decay);
        let moments = first.parts_mut().into_iter().zip(second.parts_mut());
        let blocks = network.parts_mut().into_iter().zip(gradient.parts()).zip(moments);
        for ((w, (_, bias, g)), (m, v)) in blocks {
            for i in 0..w.len() {
                let mut g = g[i] * scale;
                match settings.optimizer {
                    Optimizer::Sgd => {
                        g += decay * w[i];
                        m[i] = settings.momentum * m[i] + g;
                        w[i] -= rate * m[i];
                        continue;
                    }
                    Optimizer::Adam => g += decay * w[i],
                    Optimizer::AdamW if bias => {}
                    Optimizer::AdamW => w[i] -= rate * decay * w[i],
                }
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let mean = m[i] / (1.0 - 0.9_f64.powi(*steps));
                let square = v[i] / (1.0 - 0.999_f64.powi(*steps));
                w[i] -= rate * mean / (square.sqrt() + 1e-8);
            }
        }
    }
}

/// Samples to ask and to learn, drawn by a seed.
pub(crate) struct Material {
    pub(crate) states: Vec<f32>,
    pub(crate) actions: Vec<f32>,
    pub(crate) returns: Vec<f64>,
    pub(crate) contexts: Vec<f32>,
    pub(crate) timesteps: Vec<i64>,
    pub(crate) weights: Vec<f32>,
}

impl Material {
    pub(crate) fn new(seed: u64, settings: &LayerSettings, n: usize) -> Self {
        let rng = Rng::new(seed, 77);
        let normal = |stream: u64, count: usize| -> Vec<f32> {
            (0..count as u64).map(|i| rng.child(stream).normal(i) as f32).collect()
        };
        Self {
            states: normal(0, n * settings.state_size),
            actions: normal(1, n * settings.action_size),
            returns: (0..n as u64).map(|i| rng.child(2).uniform(i)).collect(),
            contexts: normal(3, n * settings.state_size),
            timesteps: (0..n as i64).collect(),
            weights: (0..n as u64).map(|i| rng.child(4).uniform(i) as f32 + 0.1).collect(),
        }
    }

    /// States and returns only.
    pub(crate) fn plain(&self) -> Batch<'_> {
        let questions = Questions {
            states: &self.states,
            returns: &self.returns,
            contexts: None,
            timesteps: None,
        };
        Batch { questions, actions: &self.actions, weights: None }
    }

    /// With everything that can be given.
    pub(crate) fn full(&self) -> Batch<'_> {
        let questions = Questions {
            contexts: Some(&self.contexts),
            timesteps: Some(&self.timesteps),
            ..self.plain().questions
        };
        Batch { questions, actions: &self.actions, weights: Some(&self.weights) }
    }
}
