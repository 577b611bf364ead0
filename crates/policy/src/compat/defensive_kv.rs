//! FFY0/DefensiveKV at commit 9251b95e.

use headwise_core::{Ragged, Result, Scores};
use headwise_kernels::Block;

use super::{Compat, wanted, wanted_of};
use crate::policy::each;
use crate::scorers::Parts;
use crate::{Allocator, Defensive, LayerInput, Policy, Scorer, Selector, rows, selectors};

fn known(policy: &Policy) -> Result<&Defensive> {
    match (&policy.scorer, &policy.allocator, &policy.selector) {
        (Scorer::Defensive(scorer), Allocator::Uniform(_), Selector::AcrossHeads(_) | Selector::AcrossLayers(_)) => {
            Ok(scorer)
        }
        (scorer, ..) => Err(Compat::DefensiveKv.lacks(&format!("this composition over {}", scorer.kind()))),
    }
}

/// What heads keep on average.
pub(super) fn lengths(policy: &Policy, seen: usize, layers: usize) -> Result<Vec<usize>> {
    known(policy)?;
    Ok(vec![wanted(policy.budget, seen) as usize; layers])
}

/// Protected slots and the window get the layer's largest score.
pub(super) fn score<B: Block>(policy: &Policy, layer: &LayerInput<B>) -> Result<Scores> {
    let scorer = known(policy)?;
    let (seen, window) = (layer.seen, scorer.window);
    let open = seen.saturating_sub(window);
    // Negative for small budgets, where the source then slices from the end.
    let most = (wanted_of(policy.budget, seen, open) - window as f64) as i64;
    let parts = scorer.parts(layer)?;
    let heads = parts.len().max(1) as f64;
    let tail = |mean: &Vec<f64>| mean[mean.len().saturating_sub(window)..].iter().sum::<f64>();
    let bias = parts.iter().map(|parts| tail(&parts.mean)).sum::<f64>() / heads;
    let best = parts.iter().flat_map(|parts| &parts.scores).copied().fold(0.0, f32::max);
    let rows = parts.into_iter().map(|Parts { mean, mut scores, .. }| {
        let order = rows::falling(&mean);
        // The slot that reaches the bound is left out; where none does, all are.
        let (total, mut sum) = (mean.iter().sum::<f64>(), 0.0);
        let reaches = order.iter().position(|&slot| {
            sum += mean[slot];
            sum / total >= 0.9 - bias
        });
        let count = match most.min(reaches.unwrap_or(0) as i64) {
            count if count >= 0 => count as usize,
            less => (mean.len() as i64 + less).max(0) as usize,
        };
        order.iter().take(count).for_each(|&slot| scores[slot] = best);
        scores.resize(seen, best);
        scores
    });
    Ok(Scores::from_rows(rows))
}

/// The best of a layer, or of all layers, with no floor.
pub(super) fn select<B: Block>(policy: &Policy, layers: &[LayerInput<B>]) -> Result<Vec<Ragged<u32>>> {
    known(policy)?;
    let scores = each(layers, |layer| policy.score(layer))?;
    let Some(first) = layers.first() else { return Ok(Vec::new()) };
    let tokens = wanted(policy.budget, first.seen);
    let heads = first.heads.len();
    let best = |scores: &Scores, budget: usize| selectors::counts(scores, budget.min(scores.data().len()));
    if let Selector::AcrossHeads(_) = policy.selector {
        let of_layer =
            |scores: &Scores| selectors::top_of_heads(scores, &best(scores, (tokens * heads as f64) as usize)?);
        return scores.iter().map(of_layer).collect();
    }
    let all = Scores::from_rows(scores.iter().flat_map(|layer| layer.iter().map(<[f32]>::to_vec)));
    let counts = best(&all, (tokens * heads as f64 * layers.len() as f64) as usize)?;
    // A layer keeps as many of its best as it won, whichever heads won them.
    let of_layer =
        |(scores, counts): (&Scores, &[usize])| selectors::top_of_heads(scores, &best(scores, counts.iter().sum())?);
    scores.iter().zip(counts.chunks(heads)).map(of_layer).collect()
}
