use headwise_core::{Error, Result, Scores};
use headwise_kernels::{Block, group_reduce};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{GroupReduce, Score, with_window};
use crate::about::{About, Asks, Describe};
use crate::{LayerInput, Needs};

/// H2O (arXiv 2306.14048), heavy hitters: all the attention that a slot has ever got, and the most recent tokens.
///
/// `s_j = Σ_i a_ij` over all queries, those of the window too, so that early tokens are favoured. The sums are gathered while tokens are read:
/// the session must have this policy (or `observedAttention`) from the start. Eviction is that of KVCache-Factory, once after the prefill,
/// not the paper's at every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct H2O {
    /// Last tokens, which stay, up to 4096. Default 32.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    /// How the query heads of a KV head are reduced. Default `"mean"`.
    #[ts(optional, as = "Option<_>")]
    pub group: GroupReduce,
}

impl Describe for H2O {
    const ABOUT: About = About {
        source: "arXiv 2306.14048",
        asks: Asks::Agnostic,
        reads: &[],
        deviates: "Cut once after the prompt, as in KVCache-Factory; the paper evicts at every step.",
    };
}

impl Default for H2O {
    fn default() -> Self {
        Self { window: 32, group: GroupReduce::Mean }
    }
}

impl Score for H2O {
    fn needs(&self) -> Needs {
        Needs { running_sums: true, ..Needs::default() }
    }

    fn window(&self) -> usize {
        self.window
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let start = layer.seen.saturating_sub(self.window);
        let head = |head: usize| {
            let sums = layer.running_sums("h2o", head)?;
            let mut scores = group_reduce(sums, layer.shape.group, self.group.into())?;
            scores.truncate(layer.slots_before(head, start));
            Ok(scores)
        };
        let rows = (0..layer.heads.len()).map(head).collect::<Result<Vec<_>>>()?;
        Ok(with_window(rows, &layer.lengths()))
    }

    fn validate(&self) -> Result<()> {
        match self.window <= 4096 {
            true => Ok(()),
            false => Err(Error::invalid("h2o.window", self.window, "at most 4096")),
        }
    }
}
