use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::{AcrossHeads, Common, GroupReduce, Pooling, RowReduce, SnapKV};

/// adaKV over snapKV with look-ahead pooling, our own default.
///
/// s'_j = max over 0 ≤ d ≤ span of decay^d · s_(j−d): a head that attends to the start of a span now will want its continuation
/// next, so importance reaches forward. A short window (a window of 32 eats most of a 5 % budget) and the maximum over its rows
/// and over the group: one query that needs a slot is enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct LookaheadPolicy {
    /// Last prompt tokens whose queries vote and which stay. Default 8.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
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

impl Default for LookaheadPolicy {
    fn default() -> Self {
        Self { window: 8, span: 24, decay: 0.9, floor: 0.0, common: Common::default() }
    }
}

impl Expand for LookaheadPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let scorer = SnapKV {
            window: self.window,
            rows: RowReduce::Max,
            group: GroupReduce::Max,
            pool: Pooling::LookAhead { span: self.span, decay: self.decay },
            ..SnapKV::default()
        };
        Ok(CustomPolicy {
            selector: AcrossHeads { floor: self.floor, ..AcrossHeads::default() }.into(),
            common: self.common.clone(),
            ..CustomPolicy::new(scorer)
        })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
