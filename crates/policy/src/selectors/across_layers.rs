use std::cmp::Ordering;

use headwise_core::{Error, Result, Scores};
use headwise_kernels::topk;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Candidates, Select, counts};
use crate::about::{About, Asks, Describe};

/// All layers and heads compete for the budget (LaProx, arXiv 2605.07234; Layer-DefensiveKV, arXiv 2510.13334; KVzip, arXiv 2505.23416): the best scores
/// of the whole cache stay.
///
/// Every head's best ⌊floor · B⌋ / heads stay first (rounded so that a larger budget never takes a slot away), and what is left goes to the best of
/// the rest. The lower position wins a tie, then the lower layer and head. Since a slot's place never depends on what follows, the choice can be made layer by layer while the
/// cache holds no more than the budget and one layer: [`Stream`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct AcrossLayers {
    /// Share of the budget in [0, 1] that the heads get equally, regardless of how they compare. Default 0.
    #[ts(optional, as = "Option<_>")]
    pub floor: f64,
    /// Divide the scores of a layer by their sum first, so that layers compare (for scores that are not negative). Default true.
    #[ts(optional, as = "Option<_>")]
    pub normalize: bool,
}

impl Describe for AcrossLayers {
    const ABOUT: About = About {
        source: "arXiv 2605.07234, arXiv 2510.13334, arXiv 2505.23416",
        asks: Asks::Either,
        reads: &[],
        deviates: "Dividing by the sum of the layer is LaProx; the other two compare scores as they are (`normalize: false`); `floor` is ours.",
    };
}

impl Default for AcrossLayers {
    fn default() -> Self {
        Self { floor: 0.0, normalize: true }
    }
}

impl AcrossLayers {
    /// Slots that each of `heads` heads (of all layers) keeps in any case.
    fn floors(&self, budget: usize, heads: usize) -> impl Iterator<Item = usize> {
        let total = (budget as f64 * self.floor) as usize;
        (0..heads).map(move |head| total / heads + usize::from(head < total % heads))
    }

    /// The scores as they compete, divided by the layer's sum, `[kv head]`.
    fn scaled(&self, scores: &Scores) -> impl Iterator<Item = Vec<f32>> {
        let sum: f64 = scores.data().iter().map(|&score| f64::from(score)).sum();
        let sum = Some(sum).filter(|sum| self.normalize && *sum > 0.0 && sum.is_finite());
        scores.iter().map(move |row| match sum {
            Some(sum) => row.iter().map(|&score| (f64::from(score) / sum) as f32).collect(),
            None => row.to_vec(),
        })
    }
}

impl Select for AcrossLayers {
    fn spans_layers(&self) -> bool {
        true
    }

    fn counts_of_layers(&self, layers: &[Candidates], budgets: &[usize]) -> Result<Vec<Vec<usize>>> {
        let budget = budgets.iter().sum();
        let heads: Vec<usize> = layers.iter().map(|layer| layer.scores.rows()).collect();
        let mut all = Scores::from_rows(layers.iter().flat_map(|layer| self.scaled(&layer.scores)));
        for (head, floor) in self.floors(budget, all.rows().max(1)).enumerate().take(all.rows()) {
            for slot in topk(all.row(head), floor.min(all.row(head).len()))? {
                all.row_mut(head)[slot as usize] = f32::INFINITY;
            }
        }
        let counts = counts(&all, budget.min(all.data().len()))?;
        let mut counts = counts.into_iter();
        Ok(heads.into_iter().map(|heads| counts.by_ref().take(heads).collect()).collect())
    }

    fn validate(&self) -> Result<()> {
        match (0.0..=1.0).contains(&self.floor) {
            true => Ok(()),
            false => Err(Error::invalid("acrossLayers.floor", self.floor, "between 0 and 1")),
        }
    }
}

/// The choice of [`AcrossLayers`], layer by layer.
///
/// After each layer it knows, of all that it has seen, what can still be among the best: at most the budget. What falls out then can be evicted
/// at once, for top-K(all) ∩ (layers ≤ l) ⊆ top-K(layers ≤ l). At the end the counts are those of the choice among all layers together.
#[derive(Debug, Clone)]
pub struct Stream {
    rule: AcrossLayers,
    budget: usize,
    floors: Vec<usize>,
    /// Slots that each head keeps so far.
    counts: Vec<usize>,
    /// The slots beyond the floors, in no order.
    open: Vec<Worst>,
    kept: usize,
}

/// A competing slot; the greatest is the first to go.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Worst {
    score: f32,
    slot: usize,
    head: usize,
}

impl Eq for Worst {}

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then((self.slot, self.head).cmp(&(other.slot, other.head)))
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Stream {
    /// For `budget` slots over `heads` heads of all layers.
    pub fn new(rule: AcrossLayers, budget: usize, heads: usize) -> Self {
        let floors = rule.floors(budget, heads.max(1)).collect();
        Self { rule, budget, floors, counts: Vec::new(), open: Vec::new(), kept: 0 }
    }

    /// Takes the next layer's scores, `[kv head][candidate]`, not NaN. Afterwards [`counts`](Self::counts) says what of all layers so far can stay.
    pub fn push(&mut self, scores: &Scores) {
        for row in self.rule.scaled(scores) {
            let head = self.counts.len();
            let floor = self.floors.get(head).copied().unwrap_or(0).min(row.len());
            let mut open: Vec<Worst> = (0..row.len()).map(|slot| Worst { score: row[slot], slot, head }).collect();
            if floor > 0 {
                open.select_nth_unstable(floor - 1);
            }
            self.counts.push(row.len());
            self.kept += row.len();
            self.open.extend(&open[floor..]);
        }
        let excess = self.kept.saturating_sub(self.budget).min(self.open.len());
        if excess > 0 {
            let stays = self.open.len() - excess;
            self.open.select_nth_unstable(stays);
            self.open.drain(stays..).for_each(|worst| self.counts[worst.head] -= 1);
            self.kept -= excess;
        }
    }

    /// Slots that each head seen so far may keep: its best.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }
}
