use headwise_core::{Result, Scores};
use headwise_kernels::{Block, key_norm};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Score;
use crate::LayerInput;
use crate::about::{About, Asks, Describe, Reads};

/// Key norm (arXiv 2406.11430): score −‖k‖₂, since keys of low norm attract attention. Needs no queries.
///
/// The paper leaves out the first two layers: `protect: { layers: 2 }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
pub struct Knorm {}

impl Describe for Knorm {
    const ABOUT: About = About {
        source: "arXiv 2406.11430",
        asks: Asks::Agnostic,
        reads: &[Reads::Keys],
        deviates: "The paper leaves out the first two layers: `protect: { layers: 2 }`.",
    };
}

impl Score for Knorm {
    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let mut norms = layer.heads.iter().map(|&head| key_norm(head)).collect::<Result<Vec<_>>>()?;
        norms.iter_mut().flatten().for_each(|norm| *norm = -*norm);
        Ok(Scores::from_rows(norms))
    }
}
