use std::ops::Range;

use headwise_core::{Result, Scores};
use headwise_kernels::{Block, Pool1d};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Score, standardize};
use crate::about::{About, Asks, Describe, Reads};
use crate::gather::ChunkGrid;
use crate::{LayerInput, Needs, checks, rows};

/// Non-causal attention inside chunks (Compactor, arXiv 2507.08143): how much the queries of a slot's own chunk attend to it, those before it too.
///
/// Column sums of softmax(q · k), not divided by √d, over the chunk's queries and keys; mean over the query heads of a KV head; times ‖v‖₂; averaged
/// over three neighbours; then z-scores over all heads and slots of the layer. The last chunk is as long as the text leaves it (kvpress fills it up with
/// zeros that its mask of −1e−9 does not hide; see `compat`). The sums are gathered while tokens are read: the session must have this policy from
/// the start. Needs no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct NonCausal {
    /// Positions of a chunk, 1 to 4096. Default 256.
    #[ts(optional, as = "Option<_>")]
    pub chunk: usize,
}

impl Describe for NonCausal {
    const ABOUT: About = About {
        source: "arXiv 2507.08143, kvpress",
        asks: Asks::Agnostic,
        reads: &[Reads::Values],
        deviates: "The last chunk is as long as the text leaves it; kvpress fills it up with zeros that count.",
    };
}

impl Default for NonCausal {
    fn default() -> Self {
        Self { chunk: 256 }
    }
}

impl NonCausal {
    pub(super) fn grid(&self, start: usize, end: usize) -> ChunkGrid {
        ChunkGrid { chunk: self.chunk, start, end }
    }

    /// Scores with kvpress's padding of the last chunk.
    pub(crate) fn padded<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        self.scores(layer, true)
    }

    fn scores<B: Block>(&self, layer: &LayerInput<B>, padded: bool) -> Result<Scores> {
        let rows = self.of(layer, self.grid(0, 0), padded, |head| 0..layer.heads[head].len)?;
        Ok(Scores::from_rows(rows.into_iter().map(|row| row.into_iter().map(|x| x as f32).collect())))
    }

    /// Standardised scores of the slots of each head that `cut` says: those inside the grid.
    pub(super) fn of<B: Block>(
        &self,
        layer: &LayerInput<B>,
        grid: ChunkGrid,
        padded: bool,
        cut: impl Fn(usize) -> Range<usize>,
    ) -> Result<Vec<Vec<f64>>> {
        let sums = layer.chunk_attention("nonCausal", grid)?.finish(padded);
        let (heads, group) = (layer.shape.query_heads(), layer.shape.group);
        let mut all = Vec::with_capacity(layer.heads.len());
        for (head, &view) in layer.heads.iter().enumerate() {
            let norms = rows::value_norms(view);
            let score = |slot: usize| {
                // A slot that was read before the policy was there has no sums.
                let row = (layer.positions[head][slot] as usize).checked_sub(grid.start).map(|row| row * heads);
                let of_group = row.and_then(|row| sums.get(row + head * group..row + (head + 1) * group));
                let attention = of_group.map_or(0.0, |sums| sums.iter().sum::<f32>() / group as f32);
                attention * norms[slot]
            };
            let row: Vec<f32> = cut(head).map(score).collect();
            let pooled = Pool1d::Average { kernel: 3 }.run(&row)?;
            all.push(pooled.into_iter().map(f64::from).collect());
        }
        standardize(&mut all);
        Ok(all)
    }
}

impl Score for NonCausal {
    fn needs(&self) -> Needs {
        Needs { chunk_attention: vec![self.grid(0, 0)], ..Needs::default() }
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        self.scores(layer, false)
    }

    fn validate(&self) -> Result<()> {
        checks::window("nonCausal.chunk", self.chunk, 1)
    }
}
