use headwise_core::{Error, Result, Scores};
use headwise_kernels::{Block, topk};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Admit;
use crate::about::{About, Asks, Describe, Reads};
use crate::gather::TokenClass;
use crate::{LayerInput, Needs, attention, checks};

/// FastGen (arXiv 2310.01801): each head keeps the least of {special tokens} ⊂ {+ punctuation} ⊂ {+ frequent} ⊂ {+ local} ⊂ {everything} that holds the
/// share `recovery` of its attention.
///
/// The share is the mean over the last `window` queries, of the mean over the query heads of a KV head (the paper has no groups). Frequent: the
/// ⌊`frequent` · slots⌋ slots with the largest sum of that attention. Local: less than ⌊`local` · seen⌋ positions before the query, and before the
/// end of the text for what stays. The paper looks at all rows of the prompt and applies its choice at every step of decoding; here the last rows
/// decide, once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct FastGen {
    /// Share of the attention in [0, 1]. Default 0.95.
    #[ts(optional, as = "Option<_>")]
    pub recovery: f64,
    /// Share of the text that is local, in [0, 1]. Default 0.3.
    #[ts(optional, as = "Option<_>")]
    pub local: f64,
    /// Share of the slots that are frequent, in [0, 1]. Default 0.3.
    #[ts(optional, as = "Option<_>")]
    pub frequent: f64,
    /// Last queries that are asked, 1 to 4096. Default 32.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
}

impl Describe for FastGen {
    const ABOUT: About = About {
        source: "arXiv 2310.01801",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "The last 32 queries decide, once; the paper asks all rows and goes on at every step of decoding. The mean over the query heads is ours.",
    };
}

impl Default for FastGen {
    fn default() -> Self {
        Self { recovery: 0.95, local: 0.3, frequent: 0.3, window: 32 }
    }
}

impl FastGen {
    fn head<B: Block>(&self, layer: &LayerInput<B>, classes: &[TokenClass], head: usize) -> Result<Vec<bool>> {
        let (_, rows_at) = layer.window("fastGen", self.window)?;
        let positions = layer.positions[head];
        let mut rows = vec![vec![0.0f64; positions.len()]; rows_at.len()];
        for of_head in attention::rows(layer, "fastGen", self.window, head)?.of_query_heads() {
            for (row, of_head) in rows.iter_mut().zip(of_head) {
                row.iter_mut().zip(of_head).for_each(|(sum, &p)| *sum += f64::from(p) / layer.shape.group as f64);
            }
        }
        let sum = |slot: usize| rows.iter().map(|row| row[slot]).sum::<f64>() as f32;
        let sums: Vec<f32> = (0..positions.len()).map(sum).collect();
        let mut often = vec![false; positions.len()];
        let count = (self.frequent * positions.len() as f64) as usize;
        topk(&sums, count)?.into_iter().for_each(|slot| often[slot as usize] = true);
        let near = (self.local * layer.seen as f64) as usize;
        let holds = |parts: usize, slot: usize, at: usize| {
            let (position, class) = (positions[slot] as usize, classes[positions[slot] as usize]);
            class == TokenClass::Special
                || parts > 1 && class == TokenClass::Punctuation
                || parts > 2 && often[slot]
                || parts > 3 && at >= position && at - position < near
        };
        let last = layer.seen - 1;
        for parts in 1..=4 {
            let recovered = rows.iter().zip(rows_at).map(|(row, &at)| {
                let held = row.iter().enumerate().filter(|&(slot, _)| holds(parts, slot, at as usize));
                held.map(|(_, p)| p).sum::<f64>()
            });
            if recovered.sum::<f64>() / rows.len() as f64 >= self.recovery {
                return Ok((0..positions.len()).map(|slot| holds(parts, slot, last)).collect());
            }
        }
        Ok(vec![true; positions.len()])
    }
}

impl Admit for FastGen {
    fn needs(&self) -> Needs {
        Needs { window_queries: self.window, token_classes: true, ..Needs::default() }
    }

    fn uses_scores(&self) -> bool {
        false
    }

    fn admit<B: Block>(&self, layer: &LayerInput<B>, _: &Scores, _: &[Vec<u32>]) -> Result<Vec<Vec<bool>>> {
        let classes = layer.token_classes("fastGen")?;
        (0..layer.heads.len()).map(|head| self.head(layer, classes, head)).collect()
    }

    fn validate(&self) -> Result<()> {
        for (name, share) in [("recovery", self.recovery), ("local", self.local), ("frequent", self.frequent)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::invalid(&format!("fastGen.{name}"), share, "in [0, 1]"));
            }
        }
        checks::window("fastGen.window", self.window, 1)
    }
}
