//! A second look at what stays.

use headwise_core::{Error, Ragged, Result};
use headwise_kernels::{Block, Strips, topk};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::about::{About, Asks, Describe, Reads};
use crate::output_norms::{Norm, OutputNorms};
use crate::selectors::Candidates;
use crate::{LayerInput, checks};

/// CriticalKV (arXiv 2502.03805, ICML 2026): half of what a head keeps is chosen by the scorer; for the rest each slot's score is weighed by how much its
/// value can move the output, (s + ε) · ‖v W_O‖, mean over the query heads of the KV head.
///
/// The paper measures by L1, from a bound on the change of the layer's output; that takes each value through W_O once for each query head. ‖v W_O‖₂ costs a
/// tenth of it, and nearly all that stays is the same (docs/performance.md). How many slots a head keeps is settled before, by the scorer alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct SecondStage {
    /// Share of a head's slots that the scorer alone chooses, in [0, 1]. Default 0.5.
    #[ts(optional, as = "Option<_>")]
    pub first: f64,
    /// ε, so that a slot without attention has a weight too, not negative. Default 1e-4.
    #[ts(optional, as = "Option<_>")]
    pub epsilon: f64,
    /// How the length of v W_O is measured. Default `"l2"`; the paper's is `"l1"`.
    #[ts(optional, as = "Option<_>")]
    pub norm: Norm,
}

impl Describe for SecondStage {
    const ABOUT: About = About {
        source: "arXiv 2502.03805",
        asks: Asks::Either,
        reads: &[Reads::Values, Reads::Output],
        deviates: "‖v W_O‖₂ for ‖v W_O‖₁ (`norm`).",
    };
}

impl Default for SecondStage {
    fn default() -> Self {
        Self { first: 0.5, epsilon: 1e-4, norm: Norm::L2 }
    }
}

impl SecondStage {
    /// ‖v W_O‖ of every slot, `[kv head][slot]`.
    pub fn weights<B: Block>(&self, layer: &LayerInput<B>) -> Result<Vec<Vec<f32>>> {
        let norms = OutputNorms::of_layer("secondStage", layer, self.norm)?;
        let heads = layer.heads.iter().enumerate();
        heads.map(|(head, &view)| norms.mean(head, &Strips::values(view))).collect()
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
        let norms = OutputNorms::of_layer("secondStage", layer, self.norm)?;
        let dim = layer.shape.head_dim;
        let row = |(head, &count): (usize, &usize)| {
            let (scores, values) = (candidates.scores.row(head), layer.heads[head].all_values());
            let first = topk(scores, (count as f64 * self.first) as usize)?;
            let wanted = count - first.len();
            if wanted == 0 {
                return Ok(first);
            }
            let mut stay = vec![false; scores.len()];
            first.iter().for_each(|&slot| stay[slot as usize] = true);
            let others: Vec<usize> = (0..scores.len()).filter(|&slot| !stay[slot]).collect();
            let mut theirs = Vec::with_capacity(others.len() * dim);
            for &slot in &others {
                theirs.extend_from_slice(&values[open[head][slot] as usize * dim..][..dim]);
            }
            let weights = norms.mean(head, &Strips::new(&theirs, dim))?;
            let weighed = others.iter().zip(weights).map(|(&slot, weight)| self.weigh(scores[slot], weight));
            let second = topk(&weighed.collect::<Vec<_>>(), wanted)?;
            second.iter().for_each(|&other| stay[others[other as usize]] = true);
            Ok((0u32..).zip(stay).filter_map(|(slot, stays)| stays.then_some(slot)).collect())
        };
        let rows: Vec<_> = counts.par_iter().enumerate().map(row).collect();
        Ok(Ragged::from_rows(rows.into_iter().collect::<Result<Vec<Vec<u32>>>>()?))
    }

    /// Checks the options.
    pub(crate) fn validate(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.first) {
            return Err(Error::invalid("secondStage.first", self.first, "between 0 and 1"));
        }
        checks::not_negative("secondStage.epsilon", self.epsilon)
    }
}
