use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe, Reads};
use crate::filters::FastGen;
use crate::{Common, Pooling, SnapKV};

/// FastGen (arXiv 2310.01801): each head keeps special tokens, punctuation, frequent or local ones, as many of these as its attention needs ([`FastGen`]).
///
/// The budget is a hard cap: where the heads ask for more, the best by the attention of the last queries stay.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct FastGenPolicy {
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub choice: FastGen,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for FastGenPolicy {
    const ABOUT: About = About {
        source: "arXiv 2310.01801",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "As in the filter; that a budget caps it, and by which scores, is ours.",
    };
}

impl Expand for FastGenPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let scorer =
            SnapKV { window: self.choice.window, recent: Some(1), pool: Pooling::None {}, ..SnapKV::default() };
        Ok(CustomPolicy { filter: Some(self.choice.into()), common: self.common.clone(), ..CustomPolicy::new(scorer) })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
