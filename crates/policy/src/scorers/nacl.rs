use headwise_core::{Error, Result, Scores};
use headwise_kernels::{Block, topk};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::random::{mix, uniform};
use super::{GroupReduce, Pooling, RowReduce, Score, SnapKV, with_window};
use crate::about::{About, Asks, Describe, Reads};
use crate::{LayerInput, Needs, checks};

/// NACL (arXiv 2408.03675, ACL 2024): attention of proxy tokens at the prompt's end, and part of the kept slots by chance, so that not all heads lose
/// the same ones.
///
/// Scores are sums over the proxies' rows, mean over the query heads of a KV head, no pooling. Of the slots that a head keeps on average, the share
/// `random` is drawn without replacement, each head for itself, from those that are not among the best, with probabilities softmax(score): the best
/// scores plus Gumbel noise, which is the same. Drawn slots come after the best ones. (Published code; the paper unites both sets, which may overlap.)
/// A slot's draw depends on the seed, its layer, head and position alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Nacl {
    /// Proxies: last tokens whose queries vote and which stay, 1 to 4096. Default 32 (the code takes a hundredth of the prompt).
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    /// Share of a head's slots that is drawn, in [0, 1]. Default 0.37: 7 of the 19 parts of the published setting.
    #[ts(optional, as = "Option<_>")]
    pub random: f64,
    /// Other seeds, other draws. Default 0.
    #[ts(optional, as = "Option<_>")]
    pub seed: u32,
}

impl Describe for Nacl {
    const ABOUT: About = About {
        source: "arXiv 2408.03675",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "32 proxies, where the code takes a hundredth of the prompt; sinks are protected only when asked for.",
    };
}

impl Default for Nacl {
    fn default() -> Self {
        Self { window: 32, random: 0.37, seed: 0 }
    }
}

impl Nacl {
    fn attention(&self) -> SnapKV {
        SnapKV {
            window: self.window,
            rows: RowReduce::Sum,
            group: GroupReduce::Mean,
            pool: Pooling::None {},
            ..SnapKV::default()
        }
    }
}

impl Score for Nacl {
    fn needs(&self) -> Needs {
        self.attention().needs()
    }

    fn window(&self) -> usize {
        self.window
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let mut scores = self.attention().open("nacl", layer)?;
        let budget = layer.budget.saturating_sub(self.window);
        let best = budget - (budget as f64 * self.random) as usize;
        let seed = mix(mix(u64::from(self.seed)) ^ layer.layer as u64);
        for (head, row) in scores.iter_mut().enumerate() {
            let first = topk(row, best.min(row.len()))?;
            let seed = mix(seed ^ head as u64);
            let mut drawn = row.clone();
            for (score, &position) in drawn.iter_mut().zip(layer.positions[head]) {
                *score += -(-uniform(mix(seed ^ u64::from(position))).ln()).ln() as f32;
            }
            // Above all that noise can make: −ln(−ln u) of 53 bits is at most 37.
            for slot in first {
                drawn[slot as usize] = row[slot as usize] + 64.0 + self.window as f32;
            }
            *row = drawn;
        }
        Ok(with_window(scores, &layer.lengths()))
    }

    fn validate(&self) -> Result<()> {
        checks::window("nacl.window", self.window, 1)?;
        match (0.0..=1.0).contains(&self.random) {
            true => Ok(()),
            false => Err(Error::invalid("nacl.random", self.random, "between 0 and 1")),
        }
    }
}
