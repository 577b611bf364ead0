use headwise_core::{Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{LeverageScore, NonCausal, Score};
use crate::about::{About, Asks, Describe, Reads};
use crate::{LayerInput, Needs, checks};

/// Compactor (arXiv 2507.08143): leverage of the keys and non-causal attention, blending · z(leverage) + z(attention).
///
/// The first and the last slots take no part and get the layer's largest score + 1 (in kvpress the largest itself, which they share with one other
/// slot). Needs no question. The attention is gathered while tokens are read: the session must have this policy from the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Compactor {
    /// First slots that get the largest score. Default 8.
    #[ts(optional, as = "Option<_>")]
    pub first: usize,
    /// Last slots that get the largest score. Default 4.
    #[ts(optional, as = "Option<_>")]
    pub last: usize,
    /// Weight of the leverage, not negative. Default 0.5 (kvpress takes the compression ratio, so that scores depend on the budget).
    #[ts(optional, as = "Option<_>")]
    pub blending: f64,
    /// How leverage is computed.
    #[ts(optional, as = "Option<_>")]
    pub leverage: LeverageScore,
    /// How attention is computed.
    #[ts(optional, as = "Option<_>")]
    pub attention: NonCausal,
}

impl Describe for Compactor {
    const ABOUT: About = About {
        source: "arXiv 2507.08143",
        asks: Asks::Agnostic,
        reads: &[Reads::Keys, Reads::Values, Reads::Rotation],
        deviates: "Blending is 0.5, not the compression ratio, so that scores do not depend on the budget; the rest as in `leverage` and `nonCausal`.",
    };
}

impl Default for Compactor {
    fn default() -> Self {
        Self { first: 8, last: 4, blending: 0.5, leverage: LeverageScore::default(), attention: NonCausal::default() }
    }
}

impl Compactor {
    /// Scores as kvpress has them: the last chunk padded, the ends at the largest score itself.
    pub(crate) fn padded<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        self.scores(layer, true)
    }

    fn scores<B: Block>(&self, layer: &LayerInput<B>, kvpress: bool) -> Result<Scores> {
        let ends = layer.seen.saturating_sub(self.last);
        let cut = |head: usize| {
            let first = layer.slots_before(head, self.first);
            first..layer.slots_before(head, ends).max(first)
        };
        let leverage = self.leverage.of(layer, cut)?;
        let attention = self.attention.of(layer, self.attention.grid(self.first, self.last), kvpress, cut)?;
        let blend = |(leverage, attention): (Vec<f64>, Vec<f64>)| -> Vec<f32> {
            let pairs = leverage.into_iter().zip(attention);
            pairs.map(|(leverage, attention)| (self.blending * leverage + attention) as f32).collect()
        };
        let rows: Vec<Vec<f32>> = leverage.into_iter().zip(attention).map(blend).collect();
        let best = rows.iter().flatten().copied().reduce(f32::max).unwrap_or(0.0);
        let ends = if kvpress { best } else { best + 1.0 };
        Ok(Scores::from_rows(rows.into_iter().enumerate().map(|(head, scores)| {
            let mut row = vec![ends; layer.heads[head].len];
            row[cut(head)].copy_from_slice(&scores);
            row
        })))
    }
}

impl Score for Compactor {
    fn needs(&self) -> Needs {
        Needs { chunk_attention: vec![self.attention.grid(self.first, self.last)], ..Needs::default() }
    }

    fn has_placeholders(&self) -> bool {
        self.first + self.last > 0
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        self.scores(layer, false)
    }

    fn validate(&self) -> Result<()> {
        self.leverage.validate()?;
        self.attention.validate()?;
        checks::not_negative("compactor.blending", self.blending)
    }
}
