use headwise_core::{Error, Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Score, Scorer, SnapKV};
use crate::about::{About, Asks, Describe, Reads};
use crate::{LayerInput, Needs, Weight, WeightBy, checks};

/// Another scorer's scores, (s + ε) times how much the slot's value can move the output: ‖v‖ or ‖v W_O‖ (mean over the query heads of a KV head).
///
/// For scores that are not negative. Slots of the base's window stay protected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Weighted {
    /// Whose scores. Default `{ kind: "snapKV" }`.
    #[ts(optional, as = "Option<Scorer>")]
    pub base: Box<Scorer>,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub weight: Weight,
    /// ε, not negative. Default 0.
    #[ts(optional, as = "Option<_>")]
    pub epsilon: f64,
}

impl Describe for Weighted {
    const ABOUT: About = About {
        source: "arXiv 2502.03805",
        asks: Asks::Either,
        reads: &[Reads::Values, Reads::Output],
        deviates: "CriticalKV's weight on every slot rather than on half of them, by the Euclidean norm unless asked for L1.",
    };
}

impl Default for Weighted {
    fn default() -> Self {
        Self { base: Box::new(SnapKV::default().into()), weight: Weight::default(), epsilon: 0.0 }
    }
}

impl Score for Weighted {
    fn needs(&self) -> Needs {
        self.base.needs()
    }

    fn window(&self) -> usize {
        self.base.window()
    }

    fn has_placeholders(&self) -> bool {
        self.base.has_placeholders()
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let mut scores = self.base.score(layer)?;
        let weights = self.weight.of("weighted", layer)?;
        for (head, &view) in layer.heads.iter().enumerate() {
            let weights = weights.mean(head, view)?;
            let weigh = |(score, weight): (&mut f32, f32)| *score = (*score + self.epsilon as f32) * weight;
            scores.row_mut(head).iter_mut().zip(weights).for_each(weigh);
        }
        Ok(scores)
    }

    fn validate(&self) -> Result<()> {
        self.base.validate()?;
        if self.weight.by == WeightBy::Change {
            let reason = "weighted by change: the change depends on single queries, use snapKV's weight".into();
            return Err(Error::InvalidPolicy { reason });
        }
        checks::not_negative("weighted.epsilon", self.epsilon)
    }
}
