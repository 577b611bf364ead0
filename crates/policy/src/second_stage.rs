//! A second look at what stays.

use headwise_core::{Error, Ragged, Result};
use headwise_kernels::{Block, topk};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::about::{About, Asks, Describe, Reads};
use crate::output_norms::{Norm, OutputNorms};
use crate::selectors::Candidates;
use crate::{LayerInput, checks};

/// CriticalKV (arXiv 2502.03805, ICML 2026): half of what a head keeps is chosen by the scorer; for the rest each slot's score is weighed by how much its
/// value can move the output, (s + ε) · ‖v W_O‖₁, mean over the query heads of the KV head.
///
/// It follows from a bound on the L1 change of the layer's output. How many slots a head keeps is settled before, by the scorer alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct SecondStage {
    /// Share of a head's slots that the scorer alone chooses, in [0, 1]. Default 0.5.
    #[ts(optional, as = "Option<_>")]
    pub first: f64,
    /// ε, so that a slot without attention has a weight too, not negative. Default 1e-4.
    #[ts(optional, as = "Option<_>")]
    pub epsilon: f64,
    /// How the length of v W_O is measured. Default `"l1"`, the paper's; `"l2"` costs an eighth.
    #[ts(optional, as = "Option<_>")]
    pub norm: Norm,
}

impl Describe for SecondStage {
    const ABOUT: About =
        About { source: "arXiv 2502.03805", asks: Asks::Either, reads: &[Reads::Values, Reads::Output], deviates: "" };
}

impl Default for SecondStage {
    fn default() -> Self {
        Self { first: 0.5, epsilon: 1e-4, norm: Norm::L1 }
    }
}

impl SecondStage {
    /// ‖v W_O‖ of every slot, `[kv head][slot]`.
    pub fn weights<B: Block>(&self, layer: &LayerInput<B>) -> Result<Vec<Vec<f32>>> {
        let norms = OutputNorms::new(layer.output("secondStage")?, layer.shape, self.norm)?;
        let heads = layer.heads.iter().enumerate();
        heads.map(|(head, &view)| norms.mean(head, layer.shape.group, &view.all_values())).collect()
    }

    /// (s + ε) · ‖v W_O‖.
    pub(crate) fn weigh(&self, score: f32, weight: f32) -> f32 {
        (score + self.epsilon as f32) * weight
    }

    /// Ascending indices of the candidates that stay. `open` are the slots of the candidates.
    pub(crate) fn pick<B: Block>(
        &self,
        layer: &LayerInput<B>,
        open: &[Vec<u32>],
        candidates: &Candidates,
        counts: &[usize],
    ) -> Result<Ragged<u32>> {
        let weights = self.weights(layer)?;
        let rows = counts.iter().enumerate().map(|(head, &count)| {
            let scores = candidates.scores.row(head);
            let weight = |(&score, &slot): (&f32, &u32)| self.weigh(score, weights[head][slot as usize]);
            let mut second: Vec<f32> = scores.iter().zip(&open[head]).map(weight).collect();
            for slot in topk(scores, (count as f64 * self.first) as usize)? {
                second[slot as usize] = f32::INFINITY;
            }
            topk(&second, count)
        });
        Ok(Ragged::from_rows(rows.collect::<Result<Vec<_>>>()?))
    }

    /// Checks the options.
    pub(crate) fn validate(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.first) {
            return Err(Error::invalid("secondStage.first", self.first, "between 0 and 1"));
        }
        checks::not_negative("secondStage.epsilon", self.epsilon)
    }
}
