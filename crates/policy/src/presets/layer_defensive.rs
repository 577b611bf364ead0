use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::{AcrossLayers, Common, Defensive};

/// Layer-DefensiveKV (arXiv 2510.13334): defensive scores, all layers and heads compete.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct LayerDefensiveKVPolicy {
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub scorer: Defensive,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Expand for LayerDefensiveKVPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        Ok(CustomPolicy {
            selector: AcrossLayers { normalize: false, ..AcrossLayers::default() }.into(),
            common: self.common.clone(),
            ..CustomPolicy::new(self.scorer)
        })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
