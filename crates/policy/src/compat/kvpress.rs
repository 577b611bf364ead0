//! kvpress 0.5.5 (NVIDIA).

use headwise_core::{Ragged, Result, Scores};
use headwise_kernels::{Block, topk};

use super::{Compat, wanted};
use crate::{Allocator, LayerInput, Policy, Scorer, Selector, selectors};

/// `max(1, int(tokens))` of `tokens = T · (1 − ratio)` in f64.
pub fn n_kept(tokens: f64) -> usize {
    n_cut(tokens).max(1)
}

/// `int(tokens)` without the floor of 1, as inside StreamingLLM.
pub fn n_cut(tokens: f64) -> usize {
    tokens as usize
}

/// `round(tokens)`, half to even, as inside PyramidKV.
pub fn n_round(tokens: f64) -> usize {
    tokens.round_ties_even() as usize
}

pub(super) fn lengths(policy: &Policy, seen: usize, layers: usize) -> Result<Vec<usize>> {
    let tokens = wanted(policy.budget, seen);
    let pyramid = match (&policy.allocator, &policy.selector) {
        (Allocator::Uniform(_), _) => return Ok(vec![n_kept(tokens).min(seen); layers]),
        (Allocator::Pyramid(_), Selector::AcrossHeads(_)) => return Err(Compat::Kvpress.lacks("adaKV over pyramidKV")),
        (Allocator::Pyramid(pyramid), Selector::PerHead(_)) => pyramid,
    };
    let Scorer::SnapKV(snap) = &policy.scorer else {
        return Err(Compat::Kvpress.lacks("a pyramid over another scorer than snapKV"));
    };
    let (total, window) = (seen as f64, snap.window as f64);
    let cap = window + tokens;
    let mut min = (cap - window) / pyramid.beta as f64;
    let mut max = (cap - window) * 2.0 - min;
    if max >= total - window {
        max = total - window;
        min = (cap - window) * 2.0 - max;
    }
    if !(total >= max && max >= min && min >= window) {
        return Ok(vec![n_round(tokens).max(1).min(seen); layers]);
    }
    let step = if layers > 1 { (max - min) / (layers - 1) as f64 } else { 0.0 };
    Ok((0..layers).map(|layer| n_round(max - layer as f64 * step).min(seen)).collect())
}

/// 1 for what stays, 0 for the `n_pruned = T − int(T · (1 − r))` slots behind the sinks.
pub(super) fn streaming_scores<B: Block>(policy: &Policy, layer: &LayerInput<B>) -> Scores {
    let seen = layer.seen;
    let sinks = policy.protect.sinks.min(seen);
    let pruned = seen.saturating_sub(n_cut(wanted(policy.budget, seen)));
    let mut row = vec![1.0; seen];
    row[sinks..(sinks + pruned).min(seen)].fill(0.0);
    Scores::from_rows(layer.heads.iter().map(|_| row.clone()))
}

pub(super) fn select<B: Block>(policy: &Policy, layer: &LayerInput<B>) -> Result<Ragged<u32>> {
    let kept = lengths(policy, layer.seen, layer.shape.layers)?[layer.layer];
    let mut scores = policy.score(layer)?;
    let heads = scores.rows();
    let Selector::AcrossHeads(ada) = &policy.selector else {
        return selectors::top_of_heads(&scores, &vec![kept; heads]);
    };
    if ada.normalize {
        return Err(Compat::Kvpress.lacks("normalized adaKV"));
    }
    let safe = match ada.floor > 0.0 {
        true => n_cut(kept as f64 * ada.floor).max(1),
        false => 0,
    };
    for head in 0..heads {
        for slot in topk(scores.row(head), safe)? {
            scores.row_mut(head)[slot as usize] = f32::MAX;
        }
    }
    selectors::top_of_heads(&scores, &selectors::counts(&scores, heads * kept)?)
}
