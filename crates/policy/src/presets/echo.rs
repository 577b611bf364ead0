use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::{
    About, AcrossLayers, Asks, Common, Describe, EchoScores, Norm, Protect, Reads, Weight, WeightBy, Weighted,
};

/// Our own default for questions that come later: what the text's own queries would look at if it were read once more, weighed by the length of its
/// value, the best of the whole cache.
///
/// An estimate of KVzip's scores without its second reading ([`EchoScores`]); why, and how close it comes: docs/echo.md.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct EchoPolicy {
    /// Positions of a chunk, 4 to 4096. Default 512.
    #[ts(optional, as = "Option<_>")]
    pub chunk: usize,
    /// First tokens that stay in any case. Default 4.
    #[ts(optional, as = "Option<_>")]
    pub sinks: usize,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for EchoPolicy {
    const ABOUT: About = About { source: "ours", asks: Asks::Agnostic, reads: &[Reads::Values], deviates: "" };
}

impl Default for EchoPolicy {
    fn default() -> Self {
        Self { chunk: EchoScores::default().chunk, sinks: 4, common: Common::default() }
    }
}

impl Expand for EchoPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let scorer = Weighted {
            base: Box::new(EchoScores { chunk: self.chunk }.into()),
            weight: Weight { by: WeightBy::Value, norm: Norm::L2 },
            ..Weighted::default()
        };
        let mut common = self.common.clone();
        common.protect = common.protect.merged(&Protect { sinks: self.sinks, ..Protect::default() });
        Ok(CustomPolicy {
            selector: AcrossLayers { normalize: false, ..AcrossLayers::default() }.into(),
            common,
            ..CustomPolicy::new(scorer)
        })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
