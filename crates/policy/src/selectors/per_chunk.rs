use headwise_core::{Error, Ragged, Result, Scores};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Candidates, Select, even_counts, top_of_heads};
use crate::about::{About, Asks, Describe};
use crate::apportion;

/// Every chunk of neighbouring positions keeps its share of each head's slots (kvpress's ChunkPress): no part of the text is lost whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct PerChunk {
    /// Positions of a chunk. Default 1024, as in kvpress.
    #[ts(optional, as = "Option<_>")]
    pub length: usize,
}

impl Describe for PerChunk {
    const ABOUT: About = About {
        source: "kvpress",
        asks: Asks::Either,
        reads: &[],
        deviates: "Chunks share exactly; kvpress truncates in each.",
    };
}

impl Default for PerChunk {
    fn default() -> Self {
        Self { length: 1024 }
    }
}

impl Select for PerChunk {
    fn counts(&self, layer: &Candidates, budget: usize) -> Result<Vec<usize>> {
        Ok(even_counts(layer, budget))
    }

    fn keeps_the_best(&self) -> bool {
        false
    }

    fn pick(&self, layer: &Candidates, counts: &[usize]) -> Result<Ragged<u32>> {
        let heads = layer.scores.iter().zip(&layer.positions).zip(counts);
        let rows = heads.map(|((row, positions), &count)| {
            let parts: Vec<Vec<f32>> = positions
                .chunk_by(|&a, &b| a as usize / self.length == b as usize / self.length)
                .scan(0, |end, part| {
                    *end += part.len();
                    Some(row[*end - part.len()..*end].to_vec())
                })
                .collect();
            let sizes: Vec<usize> = parts.iter().map(Vec::len).collect();
            let shares: Vec<f64> = sizes.iter().map(|&size| size as f64).collect();
            let best = top_of_heads(&Scores::from_rows(parts), &apportion(count, &shares, &sizes))?;
            let starts = sizes.iter().scan(0, |end, &size| {
                *end += size as u32;
                Some(*end - size as u32)
            });
            Ok(starts.zip(best.iter()).flat_map(|(start, part)| part.iter().map(move |slot| start + slot)).collect())
        });
        Ok(Ragged::from_rows(rows.collect::<Result<Vec<Vec<u32>>>>()?))
    }

    fn validate(&self) -> Result<()> {
        match self.length {
            0 => Err(Error::invalid("perChunk.length", 0, "at least one position")),
            _ => Ok(()),
        }
    }
}
