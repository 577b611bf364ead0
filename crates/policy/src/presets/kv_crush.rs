use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe, Reads};
use crate::{Common, Crush, SnapKV};

/// KVCrush (arXiv 2503.00022): SnapKV scores, part of what a head keeps stands for the rest.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct KVCrushPolicy {
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub scorer: SnapKV,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub selector: Crush,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for KVCrushPolicy {
    const ABOUT: About = About {
        source: "arXiv 2503.00022",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "As in the selector: slot by slot, where the published codes work on pages.",
    };
}

impl Expand for KVCrushPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        Ok(CustomPolicy {
            selector: self.selector.into(),
            common: self.common.clone(),
            ..CustomPolicy::new(self.scorer.clone())
        })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
