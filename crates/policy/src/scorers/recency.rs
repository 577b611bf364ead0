use headwise_core::{Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Score;
use crate::LayerInput;
use crate::about::{About, Asks, Describe};

/// The newer the better: the score is the position. With sinks it is StreamingLLM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Recency {
    /// This many last tokens are protected (they are kept first anyway; with `compat: "kvcacheFactory"` they are the recent
    /// ones and sinks take the rest). Default 0.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
}

impl Describe for Recency {
    const ABOUT: About = About { source: "common", asks: Asks::Agnostic, reads: &[], deviates: "" };
}

impl Score for Recency {
    fn window(&self) -> usize {
        self.window
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        Ok(Scores::from_rows(layer.positions.iter().map(|row| row.iter().map(|&p| p as f32).collect())))
    }
}
