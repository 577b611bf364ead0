use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe, Reads};
use crate::{AcrossLayers, Common, Norm, Pooling, Protect, SnapKV, Weight, WeightBy};

/// Our own default for prompts that hold the question: what the last queries attend to and what follows it, weighed by the length of its value, the best
/// of the whole cache.
///
/// s_j = max over the last `window` queries and the query heads of a KV head of fade^n · a_j · ‖v_j‖₂, n queries being later than the one that looks: the
/// question is near the end, what the text is about is not. Then look-ahead, s'_j = max over 0 ≤ d ≤ span of decay^d · s_(j−d): a head that attends to the
/// start of a span now will want its continuation next. All layers and heads compete with the scores that they have: long values are where much of the
/// output is made. The first `sinks` tokens stay: their values are small and so are their scores, but attention that they had would go elsewhere without
/// them. Why, and what was tried: docs/lookahead.md.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct LookaheadPolicy {
    /// Last prompt tokens whose queries vote. Default 64.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    /// What is left of a vote for each later one, in (0, 1]. Default 0.97.
    #[ts(optional, as = "Option<_>")]
    pub fade: f64,
    /// Last tokens that stay in any case. Default 8.
    #[ts(optional, as = "Option<_>")]
    pub recent: usize,
    /// First tokens that stay in any case. Default 4.
    #[ts(optional, as = "Option<_>")]
    pub sinks: usize,
    /// How many slots importance reaches forward. Default 24.
    #[ts(optional, as = "Option<_>")]
    pub span: usize,
    /// How much is left of it after each slot, in (0, 1]. Default 0.9.
    #[ts(optional, as = "Option<_>")]
    pub decay: f64,
    /// Share of the budget that every head gets regardless of its scores. Default 0.
    #[ts(optional, as = "Option<_>")]
    pub floor: f64,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for LookaheadPolicy {
    const ABOUT: About =
        About { source: "ours", asks: Asks::Aware, reads: &[Reads::Keys, Reads::Values], deviates: "" };
}

impl Default for LookaheadPolicy {
    fn default() -> Self {
        Self {
            window: 64,
            fade: 0.97,
            recent: 8,
            sinks: 4,
            span: 24,
            decay: 0.9,
            floor: 0.0,
            common: Common::default(),
        }
    }
}

impl Expand for LookaheadPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let scorer = SnapKV {
            weight: Some(Weight { by: WeightBy::Value, norm: Norm::L2 }),
            pool: Pooling::LookAhead { span: self.span, decay: self.decay },
            ..SnapKV::strongest_vote(self.window, self.fade, self.recent)
        };
        let mut common = self.common.clone();
        common.protect = common.protect.merged(&Protect { sinks: self.sinks, ..Protect::default() });
        Ok(CustomPolicy {
            selector: AcrossLayers { floor: self.floor, normalize: false }.into(),
            common,
            ..CustomPolicy::new(scorer)
        })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
