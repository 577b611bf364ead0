use headwise_core::{Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{GroupReduce, PoolOrder, Pooling, RowReduce, Score, SnapKV, with_window};
use crate::about::{About, Asks, Describe, Reads};
use crate::{LayerInput, Needs, checks, rows};

/// MixKV (arXiv 2510.20707, ICLR 2026): importance where a head's keys differ, diversity where they are alike.
///
/// s = (1 − r) · importance + r · diversity. r is the mean cosine of pairs of different keys, (T ‖mean k̂‖² − 1) / (T − 1), over all slots of the head.
/// Importance: SnapKV's attention (average pooling) plus ‖v‖₂; diversity: −k̂ · mean k̂. Norm and diversity are scaled to [0, 1] over the slots
/// before the window and then to the mean of the attention, so that the three weigh alike. r comes from the prompt itself, as in the paper; its code
/// reads it from a table that was measured before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct MixKV {
    /// Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    /// Odd width of the average. Default 5.
    #[ts(optional, as = "Option<_>")]
    pub kernel: usize,
}

impl Describe for MixKV {
    const ABOUT: About = About {
        source: "arXiv 2510.20707",
        asks: Asks::Aware,
        reads: &[Reads::Keys, Reads::Values],
        deviates: "r comes from the prompt, as in the paper; the code reads it from a table.",
    };
}

impl Default for MixKV {
    fn default() -> Self {
        Self { window: 32, kernel: 5 }
    }
}

impl MixKV {
    fn attention(&self) -> SnapKV {
        SnapKV {
            window: self.window,
            rows: RowReduce::Mean,
            group: GroupReduce::Mean,
            pool: Pooling::Average { kernel: self.kernel },
            order: PoolOrder::GroupFirst,
            ..SnapKV::default()
        }
    }

    fn mix(&self, attention: &[f32], keys: &[f32], norms: &[f32], dim: usize) -> Vec<f32> {
        let unit = |key: &[f32]| -> Vec<f64> {
            let norm = key.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt().max(1e-12);
            key.iter().map(|&x| f64::from(x) / norm).collect()
        };
        let slots = (keys.len() / dim) as f64;
        let mut mean = vec![0.0; dim];
        for key in keys.chunks_exact(dim) {
            mean.iter_mut().zip(unit(key)).for_each(|(mean, x)| *mean += x / slots);
        }
        let alike = match slots > 1.0 {
            true => (slots * mean.iter().map(|x| x * x).sum::<f64>() - 1.0) / (slots - 1.0),
            false => 0.0,
        };
        let target = attention.iter().map(|&x| f64::from(x)).sum::<f64>() / attention.len().max(1) as f64;
        let diversity = keys.chunks_exact(dim).take(attention.len());
        let diversity =
            scaled(diversity.map(|key| -unit(key).iter().zip(&mean).map(|(k, m)| k * m).sum::<f64>()), target);
        let norms = scaled(norms.iter().take(attention.len()).map(|&norm| f64::from(norm)), target);
        let mixed = attention.iter().zip(norms).zip(diversity);
        mixed.map(|((&a, norm), div)| (alike * div + (1.0 - alike) * (f64::from(a) + norm)) as f32).collect()
    }
}

/// Between 0 and 1, then with this mean; zeros where all are the same.
fn scaled(numbers: impl Iterator<Item = f64>, target: f64) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    numbers.iter_mut().for_each(|x| *x -= low);
    let mean = numbers.iter().sum::<f64>() / numbers.len().max(1) as f64;
    let scale = if mean > 0.0 { target / mean } else { 0.0 };
    numbers.iter_mut().for_each(|x| *x *= scale);
    numbers
}

impl Score for MixKV {
    fn needs(&self) -> Needs {
        self.attention().needs()
    }

    fn window(&self) -> usize {
        self.window
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let attention = self.attention().open("mixKV", layer)?;
        let heads = layer.heads.iter().zip(&attention);
        let mixed = heads.map(|(&view, attention)| {
            self.mix(attention, &view.all_keys(), &rows::value_norms(view), layer.shape.head_dim)
        });
        Ok(with_window(mixed.collect(), &layer.lengths()))
    }

    fn validate(&self) -> Result<()> {
        checks::window("mixKV.window", self.window, 1)?;
        checks::kernel("mixKV.kernel", self.kernel)
    }
}
