use headwise_core::{Result, Scores};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Candidates, Select, counts};
use crate::about::{About, Asks, Describe};

/// KVCompose (arXiv 2509.05165): layers compete rank by rank, and every head keeps its own best slots, as many as the other heads of its layer.
///
/// The best slots of a layer's heads make its first composite token, the second best its second, and so on; a composite token is worth the mean of their
/// scores. The best composite tokens of all layers stay, so each layer stays rectangular. Where the budget ends inside a composite token, the first heads keep their
/// part of it. A head that holds fewer slots than others has no part in the last ranks. Ties go to the lower rank, then layer, then head.
///
/// The published code gives the first layer the largest of all layers' worth at each rank; the paper does not, nor do we.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
pub struct Composite {}

impl Describe for Composite {
    const ABOUT: About = About {
        source: "arXiv 2509.05165, kvpress",
        asks: Asks::Either,
        reads: &[],
        deviates: "The first layer is one like the others, as in the paper; kvpress gives it the largest of all layers' worth.",
    };
}

/// For each head of a layer what its ranks are worth.
fn worth(scores: &Scores) -> Vec<Vec<f32>> {
    let falling = |row: &[f32]| {
        let mut row = row.to_vec();
        row.sort_unstable_by(|a, b| b.total_cmp(a));
        row
    };
    let sorted: Vec<Vec<f32>> = scores.iter().map(falling).collect();
    let longest = sorted.iter().map(Vec::len).max().unwrap_or(0);
    let mean = |rank: usize| {
        let parts = sorted.iter().filter_map(|row| row.get(rank)).map(|&score| f64::from(score));
        (parts.clone().sum::<f64>() / parts.count().max(1) as f64) as f32
    };
    let worth: Vec<f32> = (0..longest).map(mean).collect();
    sorted.iter().map(|row| worth[..row.len()].to_vec()).collect()
}

impl Select for Composite {
    fn spans_layers(&self) -> bool {
        true
    }

    fn counts_of_layers(&self, layers: &[Candidates], budgets: &[usize]) -> Result<Vec<Vec<usize>>> {
        let all = Scores::from_rows(layers.iter().flat_map(|layer| worth(&layer.scores)));
        let counts = counts(&all, budgets.iter().sum::<usize>().min(all.data().len()))?;
        let mut counts = counts.into_iter();
        Ok(layers.iter().map(|layer| counts.by_ref().take(layer.scores.rows()).collect()).collect())
    }
}
