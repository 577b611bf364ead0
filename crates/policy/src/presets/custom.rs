use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Expand;
use crate::about::{About, Asks, Describe};
use crate::{Allocator, Common, Filter, Scorer, SecondStage, Selector};

/// The composed form: any scorer with any allocator and selector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct CustomPolicy {
    /// How much a slot is worth.
    pub scorer: Scorer,
    /// How the budget is split over the layers. Default `{ kind: "uniform" }`.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub allocator: Allocator,
    /// Which slots stay. Default `{ kind: "perHead" }`.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub selector: Selector,
    /// Which slots may compete at all, however large the budget. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub filter: Option<Filter>,
    /// A second look at what stays (CriticalKV). Default: none.
    #[serde(default, rename = "secondStage", skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub second_stage: Option<SecondStage>,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for CustomPolicy {
    const ABOUT: About = About { source: "ours", asks: Asks::Either, reads: &[], deviates: "" };
}

impl CustomPolicy {
    /// This scorer, uniform over layers and heads, without a budget yet.
    pub fn new(scorer: impl Into<Scorer>) -> Self {
        Self {
            scorer: scorer.into(),
            allocator: Allocator::default(),
            selector: Selector::default(),
            filter: None,
            second_stage: None,
            common: Common::default(),
        }
    }
}

impl Expand for CustomPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        Ok(self.clone())
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
