use headwise_core::{Result, Scores};
use headwise_kernels::{Block, Pool1d};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Score, with_window};
use crate::about::{About, Asks, Describe, Reads};
use crate::{LayerInput, Needs, attention, checks, rows};

/// AhaKV (arXiv 2506.03762): attention of the last queries, sharpened as much as length blunts it, times a prior from the values.
///
/// s_j = γ_j · Σ softmax(λ q · k)_j over the window's rows, mean over the query heads of a KV head. λ = √(2 ln(i / b) / d), with i the tokens that the row
/// sees and b the slots that a head keeps, in place of 1/√d: so the mean entropy of normally distributed logits stays near ln b whatever the length.
/// Where i ≤ b nothing would be evicted, and 1/√d stays. γ = AvgPool(‖v‖²) over its maximum, over all slots of the head. The pool's width is in no
/// public source; 7 here. The paper goes on at decode; this is its state after the prefill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct AhaKV {
    /// Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    /// Odd width of the average of the values' prior. Default 7.
    #[ts(optional, as = "Option<_>")]
    pub kernel: usize,
}

impl Describe for AhaKV {
    const ABOUT: About = About {
        source: "arXiv 2506.03762",
        asks: Asks::Aware,
        reads: &[Reads::Keys, Reads::Values],
        deviates: "There is no official code, and the width of the values' average is in no public source: 7 here.",
    };
}

impl Default for AhaKV {
    fn default() -> Self {
        Self { window: 32, kernel: 7 }
    }
}

impl Score for AhaKV {
    fn needs(&self) -> Needs {
        Needs { window_queries: self.window, ..Needs::default() }
    }

    fn window(&self) -> usize {
        self.window
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let start = layer.seen.saturating_sub(self.window);
        let (budget, dim) = (layer.budget.max(1) as f64, layer.shape.head_dim as f64);
        let gain = |position: u32| {
            let ratio = (f64::from(position) + 1.0) / budget;
            if ratio > 1.0 { (2.0 * ratio.ln() / dim).sqrt() as f32 } else { layer.scale }
        };
        let mut scores = Vec::with_capacity(layer.heads.len());
        for (head, &view) in layer.heads.iter().enumerate() {
            let open = layer.slots_before(head, start);
            let mut sums = vec![0.0f64; open];
            for row in attention::rows_at(layer, "ahaKV", self.window, head, gain)?.all() {
                sums.iter_mut().zip(row).for_each(|(sum, &p)| *sum += f64::from(p));
            }
            sums.iter_mut().for_each(|sum| *sum /= layer.shape.group as f64);
            let squares: Vec<f32> = rows::value_norms(view).into_iter().map(|norm| norm * norm).collect();
            let prior = Pool1d::Average { kernel: self.kernel }.run(&squares)?;
            let most = prior.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
            scores.push(sums.iter().zip(&prior).map(|(sum, prior)| (sum * f64::from(prior / most)) as f32).collect());
        }
        Ok(with_window(scores, &layer.lengths()))
    }

    fn validate(&self) -> Result<()> {
        checks::window("ahaKV.window", self.window, 1)?;
        checks::kernel("ahaKV.kernel", self.kernel)
    }
}
