use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe, Reads};
use crate::{Common, DynamicKVLayers, SnapKV};

/// DynamicKV (arXiv 2412.14838): SnapKV scores, layers share by how many of the best scores of all are theirs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct DynamicKVPolicy {
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub scorer: SnapKV,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub layers: DynamicKVLayers,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for DynamicKVPolicy {
    const ABOUT: About = About {
        source: "arXiv 2412.14838",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "Layers share as in the allocator; scores are pooled by a maximum of 7, in the paper by an average.",
    };
}

impl Expand for DynamicKVPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        Ok(CustomPolicy {
            allocator: self.layers.into(),
            common: self.common.clone(),
            ..CustomPolicy::new(self.scorer.clone())
        })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
