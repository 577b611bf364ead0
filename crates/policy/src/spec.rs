//! What people write: policies as JSON.

use headwise_core::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Value, json};
use ts_rs::TS;

use crate::{AdaKVPolicy, Budget, Common, CustomPolicy, Expand, FullPolicy, Policy, Preset, Scorer};

/// A policy as people write it, told apart by `kind`: a preset, or a scorer's name with that scorer's options.
///
/// ```json
/// { "kind": "snapKV", "window": 32, "budget": { "tokensPerHead": 256 } }
/// { "kind": "adaKV", "base": { "kind": "knorm" }, "floor": 0.2, "budget": { "keep": 0.2 } }
/// { "kind": "custom", "scorer": { "kind": "tova" }, "allocator": { "kind": "pyramid" }, "budget": { "bytes": 8000000 } }
/// ```
///
/// Unknown fields are errors. What is left out has the default of the Rust type.
#[derive(Debug, Clone, PartialEq, Serialize, TS)]
#[serde(untagged)]
pub enum PolicySpec {
    /// A preset.
    Preset(Preset),
    /// A scorer, uniform over layers and heads.
    Scorer(ScorerPolicy),
}

/// A scorer by its `kind`, uniform over layers and heads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct ScorerPolicy {
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub scorer: Scorer,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl PolicySpec {
    /// Parses JSON. Everything that is wrong is an [`Error::InvalidPolicy`] that names it.
    pub fn from_json(json: &str) -> Result<Self> {
        Self::from_value(serde_json::from_str(json).map_err(|error| invalid(error.to_string()))?)
    }

    /// Parses a JSON value, as [`PolicySpec::from_json`].
    pub fn from_value(value: Value) -> Result<Self> {
        let kind = match value.get("kind").and_then(Value::as_str) {
            Some(kind) => kind.to_owned(),
            None => return Err(invalid(format!("a policy is an object with a \"kind\": {}", known_kinds()))),
        };
        let spec = if Preset::KINDS.contains(&kind.as_str()) {
            serde_json::from_value(value.clone()).map(Self::Preset)
        } else if Scorer::KINDS.contains(&kind.as_str()) {
            serde_json::from_value(value.clone()).map(Self::Scorer)
        } else {
            return Err(invalid(format!("unknown kind {kind:?}, expected {}", known_kinds())));
        };
        let spec = spec.map_err(|error| invalid(format!("{kind}: {error}")))?;
        let known = serde_json::to_value(&spec).map_err(|error| invalid(error.to_string()))?;
        refuse_unknown(&value, &known, &kind)?;
        Ok(spec)
    }

    /// The composed form, checked. [`Error::InvalidPolicy`] without a budget, [`Error::InvalidArgument`] for an option out of
    /// its range.
    pub fn resolve(&self) -> Result<Policy> {
        Policy::try_from(self.expand()?)
    }

    /// A policy by the name that a CLI takes, with its defaults and no budget yet: every kind but `custom`, and `adaX` for
    /// adaKV over the kind x (adaSnapKV, adaPyramidKV, adaKnorm, …).
    pub fn named(name: &str) -> Result<Self> {
        if let Some(base) = ada_bases().find(|base| ada_name(base) == name) {
            let base = Box::new(Self::from_value(json!({ "kind": base }))?);
            return Ok(Self::Preset(AdaKVPolicy { base, ..AdaKVPolicy::default() }.into()));
        }
        if Self::names().iter().all(|known| known != name) {
            return Err(invalid(format!("unknown policy {name:?}, expected one of {}", Self::names().join(", "))));
        }
        Self::from_value(json!({ "kind": name }))
    }

    /// All names that [`PolicySpec::named`] knows.
    pub fn names() -> Vec<String> {
        let plain =
            Preset::KINDS.iter().chain(Scorer::KINDS).filter(|kind| **kind != "custom").map(|kind| kind.to_string());
        plain.chain(ada_bases().map(ada_name)).collect()
    }

    /// This policy with another budget. `full` has none and stays as it is.
    pub fn with_budget(mut self, budget: Budget) -> Self {
        if let Some(common) = self.common_mut() {
            common.budget = Some(budget);
        }
        self
    }
}

impl Expand for PolicySpec {
    fn expand(&self) -> Result<CustomPolicy> {
        match self {
            Self::Preset(preset) => preset.expand(),
            Self::Scorer(ScorerPolicy { scorer, common }) => {
                Ok(CustomPolicy { common: common.clone(), ..CustomPolicy::new(scorer.clone()) })
            }
        }
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        match self {
            Self::Preset(preset) => preset.common_mut(),
            Self::Scorer(policy) => Some(&mut policy.common),
        }
    }
}

impl Default for PolicySpec {
    /// `full`.
    fn default() -> Self {
        Self::Preset(FullPolicy {}.into())
    }
}

impl<S: Into<Scorer>> From<S> for PolicySpec {
    fn from(scorer: S) -> Self {
        Self::Scorer(ScorerPolicy { scorer: scorer.into(), common: Common::default() })
    }
}

impl<'de> Deserialize<'de> for PolicySpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?).map_err(|error| match error {
            Error::InvalidPolicy { reason } => de::Error::custom(reason),
            other => de::Error::custom(other),
        })
    }
}

fn ada_bases() -> impl Iterator<Item = &'static str> {
    let scorers = Scorer::KINDS.iter().copied().filter(|kind| *kind != "recency");
    Preset::KINDS.iter().copied().filter(|kind| *kind == "pyramidKV").chain(scorers)
}

fn ada_name(base: &str) -> String {
    let (first, rest) = base.split_at(1);
    format!("ada{}{rest}", first.to_uppercase())
}

fn known_kinds() -> String {
    let kinds: Vec<_> = Preset::KINDS.iter().chain(Scorer::KINDS).copied().collect();
    format!("one of {}", kinds.join(", "))
}

fn invalid(reason: String) -> Error {
    Error::InvalidPolicy { reason }
}

/// serde cannot refuse unknown fields beside flattened ones, so what was read is compared with what was understood.
fn refuse_unknown(given: &Value, understood: &Value, path: &str) -> Result<()> {
    match (given, understood) {
        (Value::Object(given), Value::Object(understood)) => {
            let empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            for (name, value) in given.iter().filter(|(_, value)| !empty(value)) {
                let Some(known) = understood.get(name) else {
                    let names: Vec<_> = understood.keys().map(String::as_str).collect();
                    let names = names.join(", ");
                    return Err(invalid(format!(
                        "{path}: unknown field {name:?} (there are {names} and the common options)"
                    )));
                };
                refuse_unknown(value, known, &format!("{path}.{name}"))?;
            }
            Ok(())
        }
        (Value::Array(given), Value::Array(understood)) => {
            given.iter().zip(understood).try_for_each(|(given, understood)| refuse_unknown(given, understood, path))
        }
        _ => Ok(()),
    }
}
