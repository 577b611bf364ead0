use headwise_core::{Error, Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Admit;
use crate::about::{About, Asks, Describe, Reads};
use crate::{LayerInput, Needs, attention};

/// ReFreeKV, first DBudgetKV (arXiv 2502.16886): of each head the fewest slots, in the scorer's order, without which the norm of the last query's attention
/// falls by less than `loss`: 1 − √(Σ kept a²) / ‖a‖₂ < loss, with a the mean over the query heads of the KV head.
///
/// With the scorer `recency` and four protected sinks this is the paper's rule; over the attention itself it keeps less for the same loss. The paper
/// leaves out the first two layers (`protect: { layers: 2 }`). Its code decides once a layer and leaves the sinks out of the norm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct NormRule {
    /// What may be lost of the norm, in (0, 1). Default 0.01.
    #[ts(optional, as = "Option<_>")]
    pub loss: f64,
    /// First slots that come before all others, whatever their score. Default 4.
    #[ts(optional, as = "Option<_>")]
    pub sinks: usize,
}

impl Describe for NormRule {
    const ABOUT: About = About {
        source: "arXiv 2502.16886",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "Each head decides for itself and sinks count; the code decides once a layer and leaves them out of the norm.",
    };
}

impl Default for NormRule {
    fn default() -> Self {
        Self { loss: 0.01, sinks: 4 }
    }
}

impl Admit for NormRule {
    fn needs(&self) -> Needs {
        Needs { window_queries: 1, ..Needs::default() }
    }

    fn admit<B: Block>(&self, layer: &LayerInput<B>, scores: &Scores, _: &[Vec<u32>]) -> Result<Vec<Vec<bool>>> {
        let head = |head: usize| {
            let row = scores.row(head);
            let mut mean = vec![0.0f64; row.len()];
            for attention in attention::rows(layer, "normRule", 1, head)?.all() {
                mean.iter_mut().zip(attention).for_each(|(mean, &p)| *mean += f64::from(p) / layer.shape.group as f64);
            }
            let sinks = layer.slots_before(head, self.sinks);
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&a, &b| (b < sinks).cmp(&(a < sinks)).then(row[b].total_cmp(&row[a])));
            let all = mean.iter().map(|a| a * a).sum::<f64>().sqrt();
            let (mut admitted, mut squares) = (vec![false; row.len()], 0.0f64);
            for slot in order {
                if 1.0 - squares.sqrt() / all < self.loss {
                    break;
                }
                admitted[slot] = true;
                squares += mean[slot] * mean[slot];
            }
            Ok(admitted)
        };
        (0..layer.heads.len()).map(head).collect()
    }

    fn validate(&self) -> Result<()> {
        match self.loss > 0.0 && self.loss < 1.0 {
            true => Ok(()),
            false => Err(Error::invalid("normRule.loss", self.loss, "between 0 and 1")),
        }
    }
}
