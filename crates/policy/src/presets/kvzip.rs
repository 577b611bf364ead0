use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe};
use crate::{AcrossLayers, Common, Protect, Reconstruction};

/// KVzip (arXiv 2505.23416), for questions that are not known yet: what the model needs to repeat the text, the best of the whole cache.
///
/// Costs one more reading of the text when the cache is compressed ([`Reconstruction`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct KvzipPolicy {
    /// Tokens that are repeated at a time. Default 2048.
    #[ts(optional, as = "Option<_>")]
    pub chunk: usize,
    /// KVzip+: weigh attention by what the value adds to the hidden state. Default false.
    #[ts(optional, as = "Option<_>")]
    pub normalized: bool,
    /// First tokens that stay in any case. Default 4.
    #[ts(optional, as = "Option<_>")]
    pub sinks: usize,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for KvzipPolicy {
    const ABOUT: About = About {
        source: "arXiv 2505.23416",
        asks: Asks::Agnostic,
        reads: &[],
        deviates: "Scores are those of `reconstruction`; head-level eviction is not here.",
    };
}

impl Default for KvzipPolicy {
    fn default() -> Self {
        let Reconstruction { chunk, normalized } = Reconstruction::default();
        Self { chunk, normalized, sinks: 4, common: Common::default() }
    }
}

impl Expand for KvzipPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let Self { chunk, normalized, sinks, .. } = *self;
        let mut common = self.common.clone();
        common.protect = common.protect.merged(&Protect { sinks, ..Protect::default() });
        Ok(CustomPolicy {
            selector: AcrossLayers { normalize: false, ..AcrossLayers::default() }.into(),
            common,
            ..CustomPolicy::new(Reconstruction { chunk, normalized })
        })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
