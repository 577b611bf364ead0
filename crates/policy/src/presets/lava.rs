use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe, Reads};
use crate::{AcrossHeads, Common, Entropy, Lava};

/// LAVa (arXiv 2509.09754): layers share by the entropy of their scores, heads of a layer compete.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct LavaPolicy {
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub scorer: Lava,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub selector: AcrossHeads,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for LavaPolicy {
    const ABOUT: About = About {
        source: "arXiv 2509.09754",
        asks: Asks::Aware,
        reads: &[Reads::Keys, Reads::Values],
        deviates: "Layers share once all are read, where the code trims earlier ones as it goes.",
    };
}

impl Expand for LavaPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        Ok(CustomPolicy {
            allocator: Entropy {}.into(),
            selector: self.selector.into(),
            common: self.common.clone(),
            ..CustomPolicy::new(self.scorer)
        })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
