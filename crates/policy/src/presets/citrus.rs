use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe};
use crate::{Common, Instruction, Shared};

/// CItruS (arXiv 2406.12018), one cache: what an instruction's tokens attend to, the same tokens in all heads of a layer.
///
/// The instruction is read when the cache is compressed ([`Instruction`]). The paper compresses after every chunk of 256 tokens; here it is done once.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct CitrusPolicy {
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub instruction: Instruction,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for CitrusPolicy {
    const ABOUT: About = About {
        source: "arXiv 2406.12018",
        asks: Asks::Agnostic,
        reads: &[],
        deviates: "Cut once, where the paper cuts after every 256 tokens; its variant with a second cache for the instruction is not here.",
    };
}

impl Expand for CitrusPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let common = self.common.clone();
        Ok(CustomPolicy { selector: Shared {}.into(), common, ..CustomPolicy::new(self.instruction.clone()) })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
