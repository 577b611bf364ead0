use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe, Reads};
use crate::{Common, NormRule, Protect, Recency};

/// ReFreeKV, first DBudgetKV (arXiv 2502.16886): the budget comes out of the text: first tokens, then from the newest backwards as many as the last
/// query's attention needs. The budget given is a cap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct RefreeKVPolicy {
    /// What may be lost of the norm of the last query's attention, in (0, 1). Default 0.01.
    #[ts(optional, as = "Option<_>")]
    pub loss: f64,
    /// First tokens that stay. Default 4.
    #[ts(optional, as = "Option<_>")]
    pub sinks: usize,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for RefreeKVPolicy {
    const ABOUT: About = About {
        source: "arXiv 2502.16886",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "Each head decides for itself and sinks count, where the code decides once a layer and leaves them out of the norm.",
    };
}

impl Default for RefreeKVPolicy {
    fn default() -> Self {
        Self { loss: 0.01, sinks: 4, common: Common::default() }
    }
}

impl Expand for RefreeKVPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let mut common = self.common.clone();
        common.protect = common.protect.merged(&Protect { sinks: self.sinks, layers: 2, ..Protect::default() });
        Ok(CustomPolicy {
            filter: Some(NormRule { loss: self.loss, sinks: self.sinks }.into()),
            common,
            ..CustomPolicy::new(Recency::default())
        })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
