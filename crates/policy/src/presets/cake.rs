use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe, Reads};
use crate::{Cake, CakeLayers, Common};

/// CAKE (arXiv 2503.12491, ICLR 2025): scores of mean and variance, layers share by how widely and how changeably they look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct CakePolicy {
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub scorer: Cake,
    /// τ₁. Default 1.
    #[ts(optional, as = "Option<_>")]
    pub spread: f64,
    /// τ₂. Default 1.
    #[ts(optional, as = "Option<_>")]
    pub shift: f64,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for CakePolicy {
    const ABOUT: About = About {
        source: "arXiv 2503.12491",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "Layers share once all are read, where the code trims earlier ones as it goes; τ₁ = τ₂ = 1, which the paper tunes for each model.",
    };
}

impl Default for CakePolicy {
    fn default() -> Self {
        Self { scorer: Cake::default(), spread: 1.0, shift: 1.0, common: Common::default() }
    }
}

impl Expand for CakePolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let layers = CakeLayers { window: self.scorer.window, spread: self.spread, shift: self.shift };
        Ok(CustomPolicy { allocator: layers.into(), common: self.common.clone(), ..CustomPolicy::new(self.scorer) })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
