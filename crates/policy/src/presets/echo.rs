use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::{
    About, AcrossLayers, Asks, Common, Describe, EchoScores, Either, Norm, Protect, Reads, Scorer, SnapKV, Weight,
    WeightBy, Weighted,
};

/// Our own default for questions that come later: what the text's own queries would look at if it were read once more, weighed by the length of its
/// value, the best of the whole cache.
///
/// s_j = e_j · ‖v_j‖₂; e_j estimates KVzip's scores without its second reading ([`EchoScores`]). With a `window` s_j = max(e_j, w_j) · ‖v_j‖₂: w_j is the
/// most that one of the last queries gives in any query head of the KV head, times fade^n for n queries behind it. That is what the text itself would go
/// on with; both are probabilities and need no scale between them. Why, and how close it comes: docs/echo.md.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct EchoPolicy {
    /// Positions of a chunk, 4 to 4096. Default 512.
    #[ts(optional, as = "Option<_>")]
    pub chunk: usize,
    /// Last tokens whose queries vote too, at most 4096: for text that goes on. Default 0.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    /// What is left of such a vote for each later one, in (0, 1]. Default 0.9.
    #[ts(optional, as = "Option<_>")]
    pub fade: f64,
    /// With a window, last tokens that stay in any case. Default 8.
    #[ts(optional, as = "Option<_>")]
    pub recent: usize,
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
        Self {
            chunk: EchoScores::default().chunk,
            window: 0,
            fade: 0.9,
            recent: 8,
            sinks: 4,
            common: Common::default(),
        }
    }
}

impl Expand for EchoPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let again = EchoScores { chunk: self.chunk };
        let base: Scorer = if self.window > 0 {
            let last = SnapKV::strongest_vote(self.window, self.fade, self.recent);
            Either { of: vec![again.into(), last.into()] }.into()
        } else {
            again.into()
        };
        let scorer = Weighted {
            base: Box::new(base),
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
