use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe, Reads};
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

impl Describe for LayerDefensiveKVPolicy {
    const ABOUT: About = About {
        source: "arXiv 2510.13334",
        asks: Asks::Aware,
        reads: &[Reads::Keys, Reads::Values, Reads::Output],
        deviates: "Scores are those of `defensive`; the window is set aside, where the published code lets it compete and can lose it.",
    };
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
