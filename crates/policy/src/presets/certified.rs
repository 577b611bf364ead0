use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::scorers::{Pooling, RowReduce};
use crate::{About, AcrossLayers, Asks, Certificate, Common, Describe, Norm, Protect, Reads, SnapKV, Weight, WeightBy};

/// An automatic budget: the least that keeps each layer's attention output within `error` for every one of the last queries ([`Certificate`]).
///
/// Slots go in the order of the norm of their attention over the window times ‖v W_O‖₂. The policy's own budget is a hard cap, under which layers and
/// heads compete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct CertifiedPolicy {
    /// Share of the output's length that may change, more than 0. Default 0.5.
    #[ts(optional, as = "Option<_>")]
    pub error: f64,
    /// Last queries that must be served, 1 to 64; their tokens stay. Default 16.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    /// First tokens that stay in any case. Default 4.
    #[ts(optional, as = "Option<_>")]
    pub sinks: usize,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for CertifiedPolicy {
    const ABOUT: About =
        About { source: "ours", asks: Asks::Aware, reads: &[Reads::Keys, Reads::Values, Reads::Output], deviates: "" };
}

impl Default for CertifiedPolicy {
    fn default() -> Self {
        let Certificate { error, window } = Certificate::default();
        Self { error, window, sinks: 4, common: Common::default() }
    }
}

impl Expand for CertifiedPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let Self { error, window, sinks, .. } = *self;
        let scorer = SnapKV {
            window,
            rows: RowReduce::L2,
            weight: Some(Weight { by: WeightBy::Output, norm: Norm::L2 }),
            pool: Pooling::None {},
            ..SnapKV::default()
        };
        let mut common = self.common.clone();
        common.protect = common.protect.merged(&Protect { sinks, ..Protect::default() });
        Ok(CustomPolicy {
            filter: Some(Certificate { error, window }.into()),
            selector: AcrossLayers::default().into(),
            common,
            ..CustomPolicy::new(scorer)
        })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
