use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe, Reads};
use crate::{Common, Pyramid, SnapKV};

/// PyramidKV (arXiv 2406.02069): SnapKV scores, lower layers keep more than higher ones.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct PyramidKVPolicy {
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub pyramid: Pyramid,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub scorer: SnapKV,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for PyramidKVPolicy {
    const ABOUT: About = About {
        source: "arXiv 2406.02069",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "Layers are rounded by largest remainder, so that their sum is the budget; the published codes truncate.",
    };
}

impl Expand for PyramidKVPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        Ok(CustomPolicy {
            allocator: self.pyramid.into(),
            common: self.common.clone(),
            ..CustomPolicy::new(self.scorer.clone())
        })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
