use headwise_core::{Error, Result};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe};
use crate::{AcrossHeads, Common, PolicySpec, Selector, SnapKV};

/// Ada-KV (arXiv 2407.11550) over any other policy: the heads of a layer compete for its slots.
///
/// Budget, schedule and compat may stand here or on the base, not on both; protections add up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct AdaKVPolicy {
    /// Whose scores (and layer budgets) to use. Default `{ kind: "snapKV" }`.
    #[ts(optional, as = "Option<PolicySpec>")]
    pub base: Box<PolicySpec>,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub selector: AcrossHeads,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for AdaKVPolicy {
    const ABOUT: About = About {
        source: "arXiv 2407.11550",
        asks: Asks::Either,
        reads: &[],
        deviates: "A layer's sum is exact; the published code rounds head by head, and its sum drifts.",
    };
}

impl Default for AdaKVPolicy {
    fn default() -> Self {
        Self { base: Box::new(SnapKV::default().into()), selector: AcrossHeads::default(), common: Common::default() }
    }
}

impl Expand for AdaKVPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let base = self.base.expand()?;
        if matches!(base.selector, Selector::AcrossHeads(_)) {
            let reason = "adaKV over a base whose heads compete already".into();
            return Err(Error::InvalidPolicy { reason });
        }
        let (outer, inner) = (&self.common, &base.common);
        let schedule =
            either("schedule", non_default(outer.schedule), non_default(inner.schedule))?.unwrap_or_default();
        let common = Common {
            budget: either("budget", outer.budget, inner.budget)?,
            protect: outer.protect.merged(&inner.protect),
            schedule,
            renumber: outer.renumber || inner.renumber,
            compat: either("compat", outer.compat, inner.compat)?,
        };
        Ok(CustomPolicy { selector: self.selector.into(), common, ..base })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}

fn non_default<T: Default + PartialEq>(value: T) -> Option<T> {
    Some(value).filter(|value| *value != T::default())
}

fn either<T>(name: &str, outer: Option<T>, inner: Option<T>) -> Result<Option<T>> {
    match (outer, inner) {
        (Some(_), Some(_)) => Err(Error::InvalidPolicy { reason: format!("{name} stands on both adaKV and its base") }),
        (outer, inner) => Ok(outer.or(inner)),
    }
}
