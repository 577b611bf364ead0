use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe, Reads};
use crate::{AcrossHeads, Common, SecondStage, SnapKV};

/// CriticalAdaKV (arXiv 2502.03805, ICML 2026): Ada-KV over SnapKV settles how many slots each head keeps; half of them are chosen by attention, the rest by
/// attention times what the value does to the output.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct CriticalAdaKVPolicy {
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub scorer: SnapKV,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub selector: AcrossHeads,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub stage: SecondStage,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for CriticalAdaKVPolicy {
    const ABOUT: About = About {
        source: "arXiv 2502.03805",
        asks: Asks::Aware,
        reads: &[Reads::Keys, Reads::Values, Reads::Output],
        deviates: "‖v W_O‖₂ for ‖v W_O‖₁ (`norm`). Heads share as in `acrossHeads`; kvpress forces each head's floor before they compete.",
    };
}

impl Expand for CriticalAdaKVPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        Ok(CustomPolicy {
            selector: self.selector.into(),
            second_stage: Some(self.stage),
            common: self.common.clone(),
            ..CustomPolicy::new(self.scorer.clone())
        })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
