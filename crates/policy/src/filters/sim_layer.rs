use headwise_core::{Error, Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Admit;
use crate::about::{About, Asks, Describe, Reads};
use crate::{LayerInput, Needs, attention, checks};

/// SimLayerKV (arXiv 2410.13846): a lazy layer, whose last queries look at little but the first and the most recent tokens, keeps only those; the
/// others keep all.
///
/// Lazy: the mean over heads and the last `last` queries of the attention to the first `initial` and the `recent` slots before the last ones is above
/// `threshold`. kvpress keeps other recent slots than it measures (`recent − last` of them, and not those right before the last); here they are
/// the same, the last ones included (see `compat`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct SimLayer {
    /// Attention above which a layer is lazy, in (0, 1]; 1: never. Default 0.9, the paper's for Llama 3 (Llama 2: 0.65, Mistral: 0.8, Qwen: 0.85).
    #[ts(optional, as = "Option<_>")]
    pub threshold: f64,
    /// First tokens. Default 4.
    #[ts(optional, as = "Option<_>")]
    pub initial: usize,
    /// Most recent tokens. Default 1024.
    #[ts(optional, as = "Option<_>")]
    pub recent: usize,
    /// Last queries that are asked, 1 to 4096. Default 1.
    #[ts(optional, as = "Option<_>")]
    pub last: usize,
}

impl Describe for SimLayer {
    const ABOUT: About = About {
        source: "arXiv 2410.13846",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "A lazy layer keeps what was measured; kvpress keeps other recent tokens.",
    };
}

impl Default for SimLayer {
    fn default() -> Self {
        Self { threshold: 0.9, initial: 4, recent: 1024, last: 1 }
    }
}

impl SimLayer {
    /// Attention that the last queries give to the ends of the text, in [0, 1].
    pub fn laziness<B: Block>(&self, layer: &LayerInput<B>) -> Result<f64> {
        let before = layer.seen.saturating_sub(self.last);
        let recent = before.saturating_sub(self.recent);
        let (mut sum, mut count) = (0.0f64, 0usize);
        for head in 0..layer.heads.len() {
            let (first, recent, before) = (
                layer.slots_before(head, self.initial),
                layer.slots_before(head, recent),
                layer.slots_before(head, before),
            );
            for row in attention::rows(layer, "simLayer", self.last, head)?.all() {
                let ends = row[..first.min(before)].iter().chain(&row[recent.max(first).min(before)..before]);
                sum += ends.map(|&p| f64::from(p)).sum::<f64>();
                count += 1;
            }
        }
        Ok(sum / count.max(1) as f64)
    }

    /// Whether the layer keeps only its ends.
    pub fn is_lazy<B: Block>(&self, layer: &LayerInput<B>) -> Result<bool> {
        let long = layer.seen > self.initial + self.recent + self.last;
        Ok(self.threshold < 1.0 && long && self.laziness(layer)? > self.threshold)
    }
}

impl Admit for SimLayer {
    fn needs(&self) -> Needs {
        Needs { window_queries: self.last, ..Needs::default() }
    }

    fn uses_scores(&self) -> bool {
        false
    }

    fn admit<B: Block>(&self, layer: &LayerInput<B>, _: &Scores, _: &[Vec<u32>]) -> Result<Vec<Vec<bool>>> {
        let lazy = self.is_lazy(layer)?;
        let recent = layer.seen.saturating_sub(self.last + self.recent);
        let admits = |&position: &u32| !lazy || (position as usize) < self.initial || position as usize >= recent;
        Ok(layer.positions.iter().map(|positions| positions.iter().map(admits).collect()).collect())
    }

    fn validate(&self) -> Result<()> {
        if !(self.threshold > 0.0 && self.threshold <= 1.0) {
            return Err(Error::invalid("simLayer.threshold", self.threshold, "more than 0, at most 1"));
        }
        checks::window("simLayer.last", self.last, 1)
    }
}
