use headwise_core::{Error, Ragged, Result};
use headwise_kernels::topk;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Candidates, Select, even_counts, top_of_heads};
use crate::about::{About, Asks, Describe};

/// KVCrush (arXiv 2503.00022): next to a head's best slots, some that stand for the others.
///
/// A position's signature is one bit a head of the layer: 1 where the slot is among the best that this head could keep. A head keeps its best
/// count − ⌊share · count⌋ slots. Its others are put in the order of the Hamming distance between their signature and an anchor, and from this row of n
/// the places ⌊i · (n − 1) / (r − 1)⌋ stay, i = 0 … r − 1: evenly spaced, so positions that the heads judge alike are represented together.
///
/// Decided: bits are those of the whole count, not of the best part of it. Equal distances, unordered in both published codes, go by position, which
/// spreads representatives of one signature over the text. Both ends of the row are taken, as in the code for vLLM; OpenVINO's steps of ⌊n / r⌋ may leave
/// out almost half of it. There is no random anchor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Crush {
    /// Share of a head's slots that represent others, in [0, 1]. Default 0.25.
    #[ts(optional, as = "Option<_>")]
    pub share: f64,
    /// What signatures are compared with. Default `"mean"`.
    #[ts(optional, as = "Option<_>")]
    pub anchor: Anchor,
}

impl Describe for Crush {
    const ABOUT: About = About {
        source: "arXiv 2503.00022",
        asks: Asks::Either,
        reads: &[],
        deviates: "Slot by slot and without a random anchor; equal distances go by position, and both ends of the row are taken, as in the code for vLLM.",
    };
}

/// A signature to measure distances from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum Anchor {
    /// Each head's more frequent bit, 0 where both are as frequent.
    #[default]
    Mean,
    /// 0, 1, 0, 1, … from the first head on.
    Alternating,
    /// No head wants the slot.
    Zeros,
    /// All heads want it.
    Ones,
}

impl Default for Crush {
    fn default() -> Self {
        Self { share: 0.25, anchor: Anchor::default() }
    }
}

impl Crush {
    fn representatives(&self, count: usize) -> usize {
        ((count as f64 * self.share) as usize).min(count)
    }

    /// Hamming distances to the anchor, `[candidate]`; `kept[head]` are the candidates whose bit is 1, of `len`.
    fn distances(&self, kept: &Ragged<u32>, len: usize) -> Vec<usize> {
        let mut distances = vec![0; len];
        for head in 0..kept.rows() {
            let ones = kept.row(head);
            let anchor = match self.anchor {
                Anchor::Mean => 2 * ones.len() > len,
                Anchor::Alternating => head % 2 == 1,
                Anchor::Zeros => false,
                Anchor::Ones => true,
            };
            // Where the anchor has a 1, all but the ones differ from it.
            if anchor {
                distances.iter_mut().for_each(|distance| *distance += 1);
            }
            for &slot in ones {
                let distance = &mut distances[slot as usize];
                *distance = if anchor { *distance - 1 } else { *distance + 1 };
            }
        }
        distances
    }
}

impl Select for Crush {
    fn counts(&self, layer: &Candidates, budget: usize) -> Result<Vec<usize>> {
        Ok(even_counts(layer, budget))
    }

    fn keeps_the_best(&self) -> bool {
        false
    }

    fn pick(&self, layer: &Candidates, counts: &[usize]) -> Result<Ragged<u32>> {
        // Heads that were cut before hold different positions; what a head does not hold it does not keep.
        let mut all = layer.positions.concat();
        all.sort_unstable();
        all.dedup();
        let place =
            |head: usize, slot: u32| all.partition_point(|&position| position < layer.positions[head][slot as usize]);
        let best = top_of_heads(&layer.scores, counts)?;
        let bits = (0..best.rows()).map(|head| best.row(head).iter().map(|&slot| place(head, slot) as u32).collect());
        let distances = self.distances(&Ragged::from_rows(bits), all.len());
        let rows = layer.scores.iter().zip(counts).enumerate().map(|(head, (row, &count))| {
            let wanted = self.representatives(count);
            let mut kept = topk(row, count - wanted)?;
            let mut rest: Vec<u32> = (0..row.len() as u32).filter(|slot| kept.binary_search(slot).is_err()).collect();
            rest.sort_by_key(|&slot| distances[place(head, slot)]);
            let last = rest.len().saturating_sub(1);
            kept.extend((0..wanted).map(|i| rest[i * last / wanted.saturating_sub(1).max(1)]));
            kept.sort_unstable();
            Ok(kept)
        });
        Ok(Ragged::from_rows(rows.collect::<Result<Vec<_>>>()?))
    }

    fn validate(&self) -> Result<()> {
        match (0.0..=1.0).contains(&self.share) {
            true => Ok(()),
            false => Err(Error::invalid("crush.share", self.share, "between 0 and 1")),
        }
    }
}
