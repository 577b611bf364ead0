//! A second look at what stays.

use headwise_core::{Error, Ragged, Result};
use headwise_kernels::{Block, topk};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::about::{About, Asks, Describe, Reads};
use crate::output_norms::{Bounds, Norm, OutputNorms};
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
    /// How the length of v W_O is measured. Default `"l1"`, the paper's.
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
        let output = layer.output("secondStage")?;
        let norms = OutputNorms::new(output, layer.shape, self.norm)?;
        let bounds = match self.norm {
            Norm::L1 => Some(Bounds::new(output, layer.shape)?),
            Norm::L2 => None,
        };
        let row = |(head, &count): (usize, &usize)| {
            let (scores, values) = (candidates.scores.row(head), layer.heads[head].all_values());
            let of = |slots: &[u32]| -> Vec<f32> {
                let dim = layer.shape.head_dim;
                slots
                    .iter()
                    .flat_map(|&slot| &values[open[head][slot as usize] as usize * dim..][..dim])
                    .copied()
                    .collect()
            };
            let first = topk(scores, (count as f64 * self.first) as usize)?;
            // −∞ until a slot is looked at.
            let mut second = vec![f32::NEG_INFINITY; scores.len()];
            first.iter().for_each(|&slot| second[slot as usize] = f32::INFINITY);
            let wanted = count - first.len();
            let look = |slots: &[u32], second: &mut [f32]| -> Result<()> {
                let weights = norms.mean(head, layer.shape.group, &of(slots))?;
                let weighed = slots.iter().zip(weights);
                weighed.for_each(|(&slot, weight)| second[slot as usize] = self.weigh(scores[slot as usize], weight));
                Ok(())
            };
            let rest: Vec<u32> = (0..scores.len() as u32).filter(|slot| first.binary_search(slot).is_err()).collect();
            match &bounds {
                _ if wanted == 0 => {}
                None => look(&rest, &mut second)?,
                Some(bounds) => {
                    // Lengths are dear. Those of the slots that could be the best give a score that is reached as often as is wanted; what cannot reach it
                    // need not be looked at.
                    let most = |(&slot, bound): (&u32, f32)| match self.weigh(scores[slot as usize], bound) {
                        // Looked at, to be refused.
                        most if most.is_nan() => f32::INFINITY,
                        most => most.max(0.0),
                    };
                    let most: Vec<f32> = rest.iter().zip(bounds.upper(head, &of(&rest))?).map(most).collect();
                    let best: Vec<u32> = topk(&most, wanted)?.into_iter().map(|index| rest[index as usize]).collect();
                    look(&best, &mut second)?;
                    let reached = best.iter().map(|&slot| second[slot as usize]).fold(f32::INFINITY, f32::min);
                    let others = rest
                        .iter()
                        .zip(&most)
                        .filter(|(slot, most)| **most >= reached && best.binary_search(slot).is_err());
                    look(&others.map(|(&slot, _)| slot).collect::<Vec<_>>(), &mut second)?;
                }
            }
            topk(&second, count)
        };
        Ok(Ragged::from_rows(counts.iter().enumerate().map(row).collect::<Result<Vec<_>>>()?))
    }

    /// Checks the options.
    pub(crate) fn validate(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.first) {
            return Err(Error::invalid("secondStage.first", self.first, "between 0 and 1"));
        }
        checks::not_negative("secondStage.epsilon", self.epsilon)
    }
}
