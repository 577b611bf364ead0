use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe, Reads};
use crate::{Common, GroupReduce, Pooling, Protect, SnapKV};

/// SAGE-KV (arXiv 2503.08879): the attention of the prompt's last query alone, mean over the query heads of a KV head; first and recent tokens stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct SageKVPolicy {
    /// First tokens that stay. Default 4.
    #[ts(optional, as = "Option<_>")]
    pub sinks: usize,
    /// Last tokens that stay. Default 32.
    #[ts(optional, as = "Option<_>")]
    pub recent: usize,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for SageKVPolicy {
    const ABOUT: About = About {
        source: "arXiv 2503.08879",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "No public code was found: the mean over the query heads and the sizes of both ends are our choice.",
    };
}

impl Default for SageKVPolicy {
    fn default() -> Self {
        Self { sinks: 4, recent: 32, common: Common::default() }
    }
}

impl Expand for SageKVPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let scorer = SnapKV {
            window: 1,
            recent: Some(self.recent),
            group: GroupReduce::Mean,
            pool: Pooling::None {},
            ..SnapKV::default()
        };
        let mut common = self.common.clone();
        common.protect = common.protect.merged(&Protect { sinks: self.sinks, ..Protect::default() });
        Ok(CustomPolicy { common, ..CustomPolicy::new(scorer) })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
