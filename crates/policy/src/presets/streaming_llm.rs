use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe};
use crate::{Common, Protect, Recency};

/// StreamingLLM (arXiv 2309.17453): attention sinks and the most recent tokens, the same in every head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct StreamingLLMPolicy {
    /// First tokens that always stay. Default 4, as in the paper.
    #[ts(optional, as = "Option<_>")]
    pub sinks: usize,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub recency: Recency,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for StreamingLLMPolicy {
    const ABOUT: About = About {
        source: "arXiv 2309.17453",
        asks: Asks::Agnostic,
        reads: &[],
        deviates: "Tokens keep their positions; the paper counts positions by what is left, which is `renumber`.",
    };
}

impl Default for StreamingLLMPolicy {
    fn default() -> Self {
        Self { sinks: 4, recency: Recency::default(), common: Common::default() }
    }
}

impl Expand for StreamingLLMPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let mut common = self.common.clone();
        common.protect = common.protect.merged(&Protect { sinks: self.sinks, ..Protect::default() });
        Ok(CustomPolicy { common, ..CustomPolicy::new(self.recency) })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
