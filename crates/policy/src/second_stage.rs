//! A second look at what stays.

use headwise_core::{Error, Ragged, Result};
use headwise_kernels::{Block, Strips, topk};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::about::{About, Asks, Describe, Reads};
use crate::output_norms::{Bounds, Norm, OutputNorms};
use crate::selectors::Candidates;
use crate::{LayerInput, checks, rows};

/// Slots whose lengths are looked up at a time.
const LOOKED_UP: usize = 192;

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
        heads.map(|(head, &view)| norms.mean(head, &rows::values_in_strips(view))).collect()
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
            let of = |slots: &[u32]| {
                let dim = layer.shape.head_dim;
                let mut some = Vec::with_capacity(slots.len() * dim);
                for &slot in slots {
                    some.extend_from_slice(&values[open[head][slot as usize] as usize * dim..][..dim]);
                }
                Strips::new(&some, dim)
            };
            let first = topk(scores, (count as f64 * self.first) as usize)?;
            // −∞ until a slot is looked at.
            let mut second = vec![f32::NEG_INFINITY; scores.len()];
            first.iter().for_each(|&slot| second[slot as usize] = f32::INFINITY);
            let wanted = count - first.len();
            let look = |slots: &[u32], second: &mut [f32]| -> Result<Vec<f32>> {
                let weighed = slots.iter().zip(norms.mean(head, &of(slots))?);
                let weighed: Vec<f32> =
                    weighed.map(|(&slot, weight)| self.weigh(scores[slot as usize], weight)).collect();
                slots.iter().zip(&weighed).for_each(|(&slot, &score)| second[slot as usize] = score);
                Ok(weighed)
            };
            let mut rest: Vec<u32> =
                (0..scores.len() as u32).filter(|slot| first.binary_search(slot).is_err()).collect();
            match &bounds {
                _ if wanted == 0 => {}
                None => _ = look(&rest, &mut second)?,
                Some(bounds) => {
                    // Lengths are dear. They are looked up for the slots that could be the best first, until as many as are wanted have reached what none of
                    // the others can.
                    let mut most = vec![0.0; scores.len()];
                    for (&slot, bound) in rest.iter().zip(bounds.upper(head, &of(&rest))?) {
                        // A NaN is looked at, to be refused.
                        let score = self.weigh(scores[slot as usize], bound);
                        most[slot as usize] = if score.is_nan() { f32::INFINITY } else { score.max(0.0) };
                    }
                    rest.sort_by(|&a, &b| most[b as usize].total_cmp(&most[a as usize]));
                    let mut reached = Vec::new();
                    for slots in rest.chunks(LOOKED_UP) {
                        if reached.len() >= wanted {
                            reached.select_nth_unstable_by(wanted - 1, |a: &f32, b| b.total_cmp(a));
                            reached.truncate(wanted);
                            if most[slots[0] as usize] < reached[wanted - 1] {
                                break;
                            }
                        }
                        reached.extend(look(slots, &mut second)?);
                    }
                }
            }
            topk(&second, count)
        };
        let rows: Vec<_> = counts.par_iter().enumerate().map(row).collect();
        Ok(Ragged::from_rows(rows.into_iter().collect::<Result<Vec<_>>>()?))
    }

    /// Checks the options.
    pub(crate) fn validate(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.first) {
            return Err(Error::invalid("secondStage.first", self.first, "between 0 and 1"));
        }
        checks::not_negative("secondStage.epsilon", self.epsilon)
    }
}
