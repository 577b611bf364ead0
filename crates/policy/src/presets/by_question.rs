use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, EchoPolicy, Expand, LookaheadPolicy};
use crate::{About, Asks, Common, Describe};

/// What we would take: `lookahead` where the prompt holds the question, `echo` where questions come later or the text just goes on.
///
/// Chosen by measurement (docs/lookahead.md, docs/echo.md); it changes when something better is found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct DefaultPolicy {
    /// Whether the question is in the prompt when the cache is cut. Default `"known"`.
    #[ts(optional, as = "Option<_>")]
    pub question: Question,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

/// When the question is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Question {
    /// It ends the prompt.
    #[default]
    Known,
    /// It comes after the cut; there may be many.
    Later,
    /// There is none: the text goes on. `echo` whose last 32 queries vote too.
    None,
}

impl Describe for DefaultPolicy {
    const ABOUT: About = About { source: "ours", asks: Asks::Either, reads: &[], deviates: "" };
}

impl Expand for DefaultPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let common = self.common.clone();
        match self.question {
            Question::Known => LookaheadPolicy { common, ..LookaheadPolicy::default() }.expand(),
            Question::Later => EchoPolicy { common, ..EchoPolicy::default() }.expand(),
            Question::None => EchoPolicy { window: 32, common, ..EchoPolicy::default() }.expand(),
        }
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
