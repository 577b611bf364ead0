use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe};
use crate::{Budget, Common, Recency};

/// Nothing is evicted. Takes no options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
pub struct FullPolicy {}

impl Describe for FullPolicy {
    const ABOUT: About = About { source: "common", asks: Asks::Agnostic, reads: &[], deviates: "" };
}

impl Expand for FullPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let common = Common { budget: Some(Budget::Keep(1.0)), ..Common::default() };
        Ok(CustomPolicy { common, ..CustomPolicy::new(Recency::default()) })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        None
    }
}
