use headwise_core::{Error, Result, Scores};
use headwise_kernels::{Block, topk};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::slice::ChunksExact;
use ts_rs::TS;

use super::{Score, with_window};
use crate::about::{About, Asks, Describe, Reads};
use crate::output_norms::{Norm, OutputNorms};
use crate::{LayerInput, Needs, attention, checks};

/// ReST-KV (arXiv 2605.08840, ICLR 2026): how much the layer's output changes when a slot is taken away.
///
/// Per query of the window and query head: a / (1 − a) · ‖(o − v) W_O‖₂, the exact change with the softmax renormalised. Rows are smoothed over time,
/// Ī = α I + (1 − α) Ī from the oldest on. Then a box average over positions, ends repeated, whose width grows with the drift D of attention: the
/// mean position of the slots that each row of the window's first half attends to most (as many as the budget leaves), minus that of the second half.
/// Width 2⌊|D| / β⌋ + 1, at least `kernel`, centred at the slot + trunc(D / β). Mean over the query heads of a KV head.
///
/// This is the paper's order; its published runs average attention over the rows first (and its code shifts by one where nothing drifts).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct RestKV {
    /// Last tokens whose queries vote and which stay, 2 to 4096. Default 32.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    /// α, weight of the newer row, in (0, 1]. Default 0.3.
    #[ts(optional, as = "Option<_>")]
    pub alpha: f64,
    /// β, positions of drift for one more position of width, positive. Default 2000.
    #[ts(optional, as = "Option<_>")]
    pub beta: f64,
    /// Least width, odd. Default 5.
    #[ts(optional, as = "Option<_>")]
    pub kernel: usize,
}

impl Describe for RestKV {
    const ABOUT: About = About {
        source: "arXiv 2605.08840",
        asks: Asks::Aware,
        reads: &[Reads::Keys, Reads::Values, Reads::Output],
        deviates: "The paper's order; its published runs average attention over the rows before all else.",
    };
}

impl Default for RestKV {
    fn default() -> Self {
        Self { window: 32, alpha: 0.3, beta: 2000.0, kernel: 5 }
    }
}

impl RestKV {
    /// ⌊|D| / β⌋ with the sign of D: the mean position of the favourites of the first half's rows minus that of the second half's.
    fn drift(&self, rows: ChunksExact<f32>, positions: &[u32], favourites: usize) -> Result<i64> {
        let (favourites, count, half) = (favourites.clamp(1, positions.len().max(1)), rows.len(), rows.len() / 2);
        let Some(middle) = rows.clone().nth(half).filter(|_| half > 0) else { return Ok(0) };
        let betas = |first: f64, second: f64| {
            let centre = |sum: f64, rows: usize| sum / (rows * favourites) as f64;
            ((centre(first, half) - centre(second, count - half)) / self.beta) as i64
        };
        // A whole β is far. Where one row's threshold tells all of them how far at least and at most, nobody need look for theirs.
        let bound = topk::threshold(middle, favourites)?.0;
        let last = positions.last().map_or(0.0, |&at| f64::from(at));
        let (mut least, mut most, mut any) = ([0.0; 2], [0.0; 2], true);
        for (index, row) in rows.clone().enumerate() {
            let (count, sum) = at_least(row, positions, bound);
            // What is missing or too much may lie anywhere.
            let excess = count as f64 - favourites as f64;
            any &= count > 0;
            least[usize::from(index >= half)] += sum as f64 - excess.max(0.0) * last;
            most[usize::from(index >= half)] += sum as f64 - excess.min(0.0) * last;
        }
        let (least, most) = (betas(least[0], most[1]), betas(most[0], least[1]));
        // A row of NaN, which `topk` refuses, has none.
        if any && least == most {
            return Ok(least);
        }
        let of_row = |row: &[f32]| {
            let slots = topk(row, favourites)?;
            Ok(slots.iter().map(|&slot| u64::from(positions[slot as usize])).sum::<u64>() as f64)
        };
        let sums = rows.map(of_row).collect::<Result<Vec<_>>>()?;
        Ok(betas(sums[..half].iter().sum(), sums[half..].iter().sum()))
    }

    /// `drift` in β.
    fn smooth(&self, row: &[f32], drift: i64) -> Vec<f64> {
        let half = ((drift.abs() * 2 + 1).max(self.kernel as i64) - 1) / 2;
        let last = row.len() as i64 - 1;
        let at = |slot: i64| f64::from(row[slot.clamp(0, last) as usize]);
        let width = (2 * half + 1) as f64;
        (0..row.len() as i64).map(|slot| (-half..=half).map(|d| at(slot + drift + d)).sum::<f64>() / width).collect()
    }
}

impl Score for RestKV {
    fn needs(&self) -> Needs {
        Needs { window_queries: self.window, ..Needs::default() }
    }

    fn window(&self) -> usize {
        self.window
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let start = layer.seen.saturating_sub(self.window);
        let norms = OutputNorms::of_layer("restKV", layer, Norm::L2)?;
        let favourites = layer.budget.saturating_sub(self.window);
        let heads = (0..layer.heads.len()).into_par_iter();
        let rows = heads.map(|head| {
            let (positions, open) = (layer.positions[head], layer.slots_before(head, start));
            let attention = attention::rows(layer, "restKV", self.window, head)?;
            let drifts = attention.of_query_heads().collect::<Vec<_>>().into_par_iter();
            let drifts = drifts.map(|rows| self.drift(rows, positions, favourites)).collect::<Vec<_>>();
            let changes = attention::change(attention, layer.heads[head], &norms, head)?;
            let of_query_head = |(mut changes, drift): (ChunksExact<f32>, Result<i64>)| {
                let first = changes.next().expect("a window has a row");
                let (mut smoothed, alpha) = (first[..open].to_vec(), self.alpha as f32);
                for change in changes {
                    smoothed.iter_mut().zip(change).for_each(|(old, new)| *old += alpha * (new - *old));
                }
                Ok(self.smooth(&smoothed, drift?))
            };
            let changes: Vec<_> = changes.of_query_heads().zip(drifts).collect();
            let mut mean = vec![0.0f64; open];
            for smoothed in changes.into_par_iter().map(of_query_head).collect::<Vec<_>>() {
                mean.iter_mut().zip(smoothed?).for_each(|(mean, x)| *mean += x / layer.shape.group as f64);
            }
            Ok(mean.into_iter().map(|x| x as f32).collect())
        });
        Ok(with_window(rows.collect::<Result<Vec<_>>>()?, &layer.lengths()))
    }

    fn validate(&self) -> Result<()> {
        checks::window("restKV.window", self.window, 2)?;
        checks::kernel("restKV.kernel", self.kernel)?;
        if !(self.beta >= 1.0 && self.beta.is_finite()) {
            return Err(Error::invalid("restKV.beta", self.beta, "a finite number, at least 1"));
        }
        match self.alpha > 0.0 && self.alpha <= 1.0 {
            true => Ok(()),
            false => Err(Error::invalid("restKV.alpha", self.alpha, "more than 0, at most 1")),
        }
    }
}

/// How many of the numbers are at least `bound`, and the sum of their positions.
fn at_least(row: &[f32], positions: &[u32], bound: f32) -> (u64, u64) {
    let mut total = (0, 0);
    // Halves of so many positions add up in 32 bits, and the compiler adds several at once.
    const TOGETHER: usize = 1 << 16;
    for (row, positions) in row.chunks(TOGETHER).zip(positions.chunks(TOGETHER)) {
        let (mut count, mut low, mut high) = (0u32, 0u32, 0u32);
        for (&p, &at) in row.iter().zip(positions) {
            let wanted = u32::from(p >= bound).wrapping_neg();
            count += wanted & 1;
            low += wanted & at & 0xffff;
            high += wanted & at >> 16;
        }
        total.0 += u64::from(count);
        total.1 += u64::from(low) + (u64::from(high) << 16);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_that_of_the_favourites_however_it_is_found() {
        let mut state = 1u64;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        let mut far = [0; 2];
        for _ in 0..2000 {
            let (count, slots, favourites) = (2 + below(6) as usize, 1 + below(40) as usize, 1 + below(20) as usize);
            let mut positions: Vec<u32> = (0..slots).map(|slot| slot as u32 * 7 + below(7) as u32).collect();
            positions.sort_unstable();
            // Few different numbers: equals are common.
            let rows: Vec<f32> = (0..count * slots).map(|_| below(9) as f32 / 8.0).collect();
            let beta = [1.0, 10.0, 60.0, 1000.0][below(4) as usize];
            let centre = |rows: &[f32]| {
                let positions_of = |row: &[f32]| {
                    let mut order: Vec<usize> = (0..slots).collect();
                    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
                    order[..favourites.min(slots)].iter().map(|&slot| f64::from(positions[slot])).sum::<f64>()
                };
                let sum: f64 = rows.chunks_exact(slots).map(positions_of).sum();
                sum / (rows.len() / slots * favourites.min(slots)) as f64
            };
            let (first, second) = rows.split_at(count / 2 * slots);
            let expected = ((centre(first) - centre(second)) / beta) as i64;
            let scorer = RestKV { beta, ..RestKV::default() };
            assert_eq!(scorer.drift(rows.chunks_exact(slots), &positions, favourites), Ok(expected));
            far[usize::from(expected != 0)] += 1;
        }
        assert!(far[0] > 400 && far[1] > 400, "{far:?}");
    }
}
