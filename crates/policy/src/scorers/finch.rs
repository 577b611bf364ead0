use headwise_core::{Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Score, with_window};
use crate::about::{About, Asks, Describe, Reads};
use crate::{LayerInput, Needs, attention, checks};

/// FINCH (TACL 2024, as in kvpress): attention of the question's tokens, each row multiplied by the tokens that it sees, so that rows weigh alike.
///
/// Mean over the rows and the query heads of a KV head; no pooling. The window is the question: give its length. kvpress multiplies by the row's
/// position, one less than it sees; here by what it sees. The paper's own factor is 1 for every row wherever the question follows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Finch {
    /// Last tokens whose queries vote and which stay: those of the question, 1 to 4096. Default 32.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
}

impl Describe for Finch {
    const ABOUT: About = About {
        source: "arXiv 2408.00167, kvpress",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "Rows are weighed by the tokens that they see, in kvpress by one less; the paper has one choice a layer, reads in chunks and closes the gaps (`renumber`).",
    };
}

impl Default for Finch {
    fn default() -> Self {
        Self { window: 32 }
    }
}

impl Score for Finch {
    fn needs(&self) -> Needs {
        Needs { window_queries: self.window, ..Needs::default() }
    }

    fn window(&self) -> usize {
        self.window
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let start = layer.seen.saturating_sub(self.window);
        let (_, positions) = layer.window("finch", self.window)?;
        let head = |head: usize| {
            let mut sums = vec![0.0f64; layer.slots_before(head, start)];
            let count = (layer.shape.group * positions.len()).max(1) as f64;
            for rows in attention::rows(layer, "finch", self.window, head)?.of_query_heads() {
                for (row, &position) in rows.zip(positions) {
                    let weight = (f64::from(position) + 1.0) / count;
                    sums.iter_mut().zip(row).for_each(|(sum, &p)| *sum += weight * f64::from(p));
                }
            }
            Ok(sums.into_iter().map(|sum| sum as f32).collect())
        };
        let rows = (0..layer.heads.len()).map(head).collect::<Result<Vec<_>>>()?;
        Ok(with_window(rows, &layer.lengths()))
    }

    fn validate(&self) -> Result<()> {
        checks::window("finch.window", self.window, 1)
    }
}
