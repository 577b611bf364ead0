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
    /// Mean position of the favourites of the first half's rows minus that of the second half's.
    fn drift(rows: ChunksExact<f32>, positions: &[u32], favourites: usize) -> Result<f64> {
        let favourites = favourites.clamp(1, positions.len().max(1));
        let of_row = |row: &[f32]| {
            let (least, equals) = topk::threshold(row, favourites)?;
            let slots = || row.iter().zip(positions);
            let above: u64 = slots().map(|(&p, &at)| if p > least { u64::from(at) } else { 0 }).sum();
            let first = slots().filter(|&(&p, _)| p == least).take(equals);
            Ok(above + first.map(|(_, &at)| u64::from(at)).sum::<u64>())
        };
        let sums = rows.map(of_row).collect::<Result<Vec<_>>>()?;
        let centre = |sums: &[u64]| sums.iter().sum::<u64>() as f64 / (sums.len() * favourites) as f64;
        let (first, second) = sums.split_at(sums.len() / 2);
        if first.is_empty() { Ok(0.0) } else { Ok(centre(first) - centre(second)) }
    }

    fn smooth(&self, row: &[f64], drift: f64) -> Vec<f64> {
        let half = (((drift.abs() / self.beta) as i64 * 2 + 1).max(self.kernel as i64) - 1) / 2;
        let shift = (drift / self.beta) as i64;
        let last = row.len() as i64 - 1;
        let at = |slot: i64| row[slot.clamp(0, last) as usize];
        let width = (2 * half + 1) as f64;
        (0..row.len() as i64).map(|slot| (-half..=half).map(|d| at(slot + shift + d)).sum::<f64>() / width).collect()
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
        let norms = OutputNorms::new(layer.output("restKV")?, layer.shape, Norm::L2)?;
        let favourites = layer.budget.saturating_sub(self.window);
        let heads = (0..layer.heads.len()).into_par_iter();
        let rows = heads.map(|head| {
            let (positions, open) = (layer.positions[head], layer.slots_before(head, start));
            let attention = attention::rows(layer, "restKV", self.window, head)?;
            let drifts = attention.of_query_heads().collect::<Vec<_>>().into_par_iter();
            let drifts = drifts.map(|rows| Self::drift(rows, positions, favourites)).collect::<Vec<_>>();
            let values = layer.heads[head].all_values();
            let changes = attention::change(attention, &values, &norms, head)?;
            let of_query_head = |(mut changes, drift): (ChunksExact<f32>, Result<f64>)| {
                let first = changes.next().expect("a window has a row");
                let mut smoothed: Vec<f64> = first[..open].iter().map(|&x| f64::from(x)).collect();
                for change in changes {
                    let newer = |(old, &new): (&mut f64, &f32)| *old += self.alpha * (f64::from(new) - *old);
                    smoothed.iter_mut().zip(change).for_each(newer);
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
