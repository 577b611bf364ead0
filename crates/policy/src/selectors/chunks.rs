use headwise_core::{Error, Ragged, Result};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Candidates, Select, even_counts};
use crate::about::{About, Asks, Describe};

/// ChunkKV (arXiv 2502.00299): whole chunks of neighbouring positions stay, the same in every head of a layer.
///
/// Chunks are counted from the first position. A chunk's score is the mean of its slots' scores, summed over the heads. The best chunks stay whole;
/// the next one fills what is left of the budget from its beginning, so that the budget is met exactly (kvpress keeps
/// `max(1, int(chunks · (1 − r)))` whole chunks, the partial last one counted as one; see `compat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Chunks {
    /// Positions of a chunk. Default 10, as in the paper (kvpress: 20).
    #[ts(optional, as = "Option<_>")]
    pub length: usize,
    /// Layers that keep the same slots: the first of each such run decides (the paper's index reuse). Default 1, each for itself.
    #[ts(optional, as = "Option<_>")]
    pub reuse: usize,
}

impl Describe for Chunks {
    const ABOUT: About = About {
        source: "arXiv 2502.00299",
        asks: Asks::Either,
        reads: &[],
        deviates: "The chunk in which the budget ends is cut; kvpress keeps whole chunks only. `reuse` is off by default.",
    };
}

impl Default for Chunks {
    fn default() -> Self {
        Self { length: 10, reuse: 1 }
    }
}

impl Select for Chunks {
    fn counts(&self, layer: &Candidates, budget: usize) -> Result<Vec<usize>> {
        Ok(even_counts(layer, budget))
    }

    fn keeps_the_best(&self) -> bool {
        false
    }

    fn pick(&self, layer: &Candidates, counts: &[usize]) -> Result<Ragged<u32>> {
        let joined = layer.joined("chunks")?;
        let positions = layer.positions.first().map_or(&[][..], |row| row);
        let order: Vec<u32> = best_chunks(&joined, positions, self.length).into_iter().flatten().collect();
        let rows = counts.iter().map(|&count| {
            let mut row = order[..count].to_vec();
            row.sort_unstable();
            row
        });
        Ok(Ragged::from_rows(rows))
    }

    fn layers_per_choice(&self) -> usize {
        self.reuse
    }

    fn validate(&self) -> Result<()> {
        match (self.length, self.reuse) {
            (0, _) => Err(Error::invalid("chunks.length", 0, "at least one position")),
            (_, 0) => Err(Error::invalid("chunks.reuse", 0, "at least one layer")),
            _ => Ok(()),
        }
    }
}

/// The slots of each chunk of `length` positions, best chunk first; ties go to the earlier one.
pub(crate) fn best_chunks(scores: &[f32], positions: &[u32], length: usize) -> Vec<Vec<u32>> {
    let mut chunks: Vec<(f64, Vec<u32>)> = Vec::new();
    let mut current = None;
    for (slot, (&score, &position)) in scores.iter().zip(positions).enumerate() {
        let chunk = position as usize / length;
        if current.replace(chunk) != Some(chunk) {
            chunks.push((0.0, Vec::new()));
        }
        if let Some((sum, slots)) = chunks.last_mut() {
            *sum += f64::from(score);
            slots.push(slot as u32);
        }
    }
    let mean = |(sum, slots): &(f64, Vec<u32>)| sum / slots.len() as f64;
    chunks.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    chunks.into_iter().map(|(_, slots)| slots).collect()
}
