use headwise_core::{Error, Result, Scores};
use headwise_kernels::{Block, Window, WindowScores, window_scores};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Score, with_window};
use crate::about::{About, Asks, Describe, Reads};
use crate::{LayerInput, Needs};

/// TOVA (arXiv 2401.06104): attention of the last query, averaged over all heads of the layer, so that every head keeps the
/// same slots. The last token is protected, as in kvpress (the paper does not force it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
pub struct Tova {}

impl Describe for Tova {
    const ABOUT: About = About {
        source: "arXiv 2401.06104",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "The last token is protected, as in kvpress; the paper evicts at every step.",
    };
}

impl Score for Tova {
    fn needs(&self) -> Needs {
        Needs { window_queries: 1, ..Needs::default() }
    }

    fn window(&self) -> usize {
        1
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        if layer.positions.iter().any(|row| *row != layer.positions[0]) {
            return Err(Error::UnsupportedFeature {
                feature: "tova on".into(),
                value: "heads that hold different positions".into(),
            });
        }
        let (queries, positions) = layer.window("tova", 1)?;
        let (query_heads, kv_heads) = (layer.shape.query_heads(), layer.heads.len());
        let window = Window { queries, positions, query_heads, scale: layer.scale };
        let kernel = WindowScores { rows: window_scores::RowReduce::Mean, fade: 1.0 };
        let open = layer.slots_before(0, layer.seen.saturating_sub(1));
        let mut mean = vec![0.0; open];
        for (head, view) in layer.heads.iter().enumerate() {
            let attention = kernel.run(&window, head, kv_heads, *view, layer.positions[head])?;
            for row in attention.chunks_exact(view.len.max(1)) {
                mean.iter_mut().zip(row).for_each(|(mean, p)| *mean += p / query_heads as f32);
            }
        }
        Ok(with_window(vec![mean; kv_heads], &layer.lengths()))
    }
}
