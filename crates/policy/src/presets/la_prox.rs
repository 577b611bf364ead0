use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe, Reads};
use crate::{AcrossLayers, Common, GroupReduce, Pooling, RowReduce, SnapKV, Weight};

/// LaProx (arXiv 2605.07234): the norm of a slot's attention over the window times the norm of what its value becomes, ‖A_j‖₂ · ‖v_j W_O‖₂, mean over
/// the query heads of a KV head, averaged over neighbours, divided by the layer's sum; the best of the whole cache stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct LaProxPolicy {
    /// Last tokens whose queries vote and which stay. Default 32.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    /// Odd width of the average. Default 7.
    #[ts(optional, as = "Option<_>")]
    pub kernel: usize,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for LaProxPolicy {
    const ABOUT: About = About {
        source: "arXiv 2605.07234",
        asks: Asks::Aware,
        reads: &[Reads::Keys, Reads::Values, Reads::Output],
        deviates: "There is no official code, and how the mean over query heads meets their own W_O is not said: here the whole product is averaged.",
    };
}

impl Default for LaProxPolicy {
    fn default() -> Self {
        Self { window: 32, kernel: 7, common: Common::default() }
    }
}

impl Expand for LaProxPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let scorer = SnapKV {
            window: self.window,
            rows: RowReduce::L2,
            weight: Some(Weight::default()),
            group: GroupReduce::Mean,
            pool: Pooling::Average { kernel: self.kernel },
            ..SnapKV::default()
        };
        Ok(CustomPolicy {
            selector: AcrossLayers::default().into(),
            common: self.common.clone(),
            ..CustomPolicy::new(scorer)
        })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
