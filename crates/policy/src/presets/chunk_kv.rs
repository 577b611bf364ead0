use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe, Reads};
use crate::{Chunks, Common, SnapKV};

/// ChunkKV (arXiv 2502.00299): SnapKV scores, whole chunks of neighbouring tokens stay, the same in every head of a layer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct ChunkKVPolicy {
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub scorer: SnapKV,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub selector: Chunks,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for ChunkKVPolicy {
    const ABOUT: About = About {
        source: "arXiv 2502.00299",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "The chunk in which the budget ends is cut, so that the budget is met; layers reuse each other's choice only when asked to.",
    };
}

impl Expand for ChunkKVPolicy {
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
