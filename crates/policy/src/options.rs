//! What every policy has beside its scorer: protection, schedule, budget, compatibility.

use headwise_core::{Error, Result};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{Budget, Compat};

/// Slots that no scorer can evict, beside the scorer's own window. They are subtracted from the budget first; a budget below
/// them is an error.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase", default)]
pub struct Protect {
    /// First positions of the text (attention sinks). Default 0.
    #[ts(optional, as = "Option<_>")]
    pub sinks: usize,
    /// First layers, which keep everything (the key-norm paper leaves out two). Default 0.
    #[ts(optional, as = "Option<_>")]
    pub layers: usize,
    /// Ranges of positions. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<_>")]
    pub spans: Vec<Span>,
}

/// Positions `start ..< end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Span {
    /// First position.
    pub start: u32,
    /// One past the last position.
    pub end: u32,
}

impl Protect {
    /// Whether the slot of this position may not be evicted.
    pub fn covers(&self, position: u32) -> bool {
        (position as usize) < self.sinks || self.spans.iter().any(|span| (span.start..span.end).contains(&position))
    }

    /// [`Error::InvalidArgument`] for a span that ends before it starts.
    pub fn validate(&self) -> Result<()> {
        match self.spans.iter().find(|span| span.start > span.end) {
            Some(span) => Err(Error::invalid(
                "protect.spans",
                format!("{}..{}", span.start, span.end),
                "an end that is not before its start",
            )),
            None => Ok(()),
        }
    }

    /// Both protections together.
    pub fn merged(&self, other: &Self) -> Self {
        Self {
            sinks: self.sinks.max(other.sinks),
            layers: self.layers.max(other.layers),
            spans: self.spans.iter().chain(&other.spans).copied().collect(),
        }
    }
}

/// When a session compresses by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Schedule {
    /// Once after each prefill, before the first token is decoded (default).
    #[default]
    AfterPrefill,
    /// Only when `compress()` is called.
    OnDemand,
}

/// Options that every policy takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase", default)]
pub struct Common {
    /// How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub budget: Option<Budget>,
    /// What may not be evicted. Default: only the scorer's own window.
    #[ts(optional, as = "Option<_>")]
    pub protect: Protect,
    /// When the session compresses by itself. Default `"afterPrefill"`.
    #[ts(optional, as = "Option<_>")]
    pub schedule: Schedule,
    /// Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
    /// them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
    /// read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
    #[ts(optional, as = "Option<_>")]
    pub renumber: bool,
    /// Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub compat: Option<Compat>,
}
