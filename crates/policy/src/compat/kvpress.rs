//! kvpress 0.5.5 (NVIDIA).

use headwise_core::{Ragged, Result, Scores};
use headwise_kernels::{Block, topk};

use super::{Compat, wanted, wanted_of};
use crate::{
    Allocator, Chunks, Filter, LayerInput, PerChunk, Policy, Score, Scorer, SecondStage, Selector, SimLayer, selectors,
};

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
        (Allocator::Pyramid(pyramid), Selector::PerHead(_)) => pyramid,
        (Allocator::Pyramid(_), _) => return Err(Compat::Kvpress.lacks("other selectors over pyramidKV")),
        (allocator, _) => return Err(Compat::Kvpress.lacks(allocator.kind())),
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
fn streaming_scores<B: Block>(policy: &Policy, layer: &LayerInput<B>) -> Scores {
    let seen = layer.seen;
    let sinks = policy.protect.sinks.min(seen);
    let pruned = seen.saturating_sub(n_cut(wanted(policy.budget, seen)));
    let mut row = vec![1.0; seen];
    row[sinks..(sinks + pruned).min(seen)].fill(0.0);
    Scores::from_rows(layer.heads.iter().map(|_| row.clone()))
}

pub(super) fn score<B: Block>(policy: &Policy, layer: &LayerInput<B>) -> Result<Scores> {
    match &policy.scorer {
        Scorer::Recency(_) => Ok(streaming_scores(policy, layer)),
        Scorer::NonCausal(scorer) => scorer.padded(layer),
        Scorer::Compactor(scorer) => scorer.padded(layer),
        scorer => scorer.score(layer),
    }
}

pub(super) fn select<B: Block>(policy: &Policy, layer: &LayerInput<B>) -> Result<Ragged<u32>> {
    let kept = lengths(policy, layer.seen, layer.shape.layers)?[layer.layer];
    match &policy.filter {
        None => {}
        Some(Filter::SimLayer(filter)) => return sim_layer(filter, layer),
        Some(filter) => return Err(Compat::Kvpress.lacks(filter.kind())),
    }
    let mut scores = policy.score(layer)?;
    let heads = scores.rows();
    let tokens = wanted(policy.budget, layer.seen);
    let ada = match &policy.selector {
        Selector::AcrossHeads(ada) => ada,
        Selector::PerHead(_) => {
            if let Some(stage) = &policy.second_stage {
                mark(&mut scores, &vec![(tokens * stage.first) as usize; heads])?;
                weigh(stage, layer, &mut scores)?;
            }
            return selectors::top_of_heads(&scores, &vec![kept; heads]);
        }
        Selector::Chunks(chunks) => return best_chunks(chunks, layer, &scores, policy),
        Selector::PerChunk(chunks) => return top_of_chunks(chunks, &scores, policy),
        other => return Err(Compat::Kvpress.lacks(other.kind())),
    };
    if ada.normalize {
        return Err(Compat::Kvpress.lacks("normalized adaKV"));
    }
    let safe = match ada.floor > 0.0 {
        true => n_cut(kept as f64 * ada.floor).max(1),
        false => 0,
    };
    mark(&mut scores, &vec![safe; heads])?;
    let counts = selectors::counts(&scores, heads * kept)?;
    if let Some(stage) = &policy.second_stage {
        let first: Vec<usize> = counts.iter().map(|&count| (count as f64 * stage.first) as usize).collect();
        mark(&mut scores, &first)?;
        weigh(stage, layer, &mut scores)?;
    }
    selectors::top_of_heads(&scores, &counts)
}

/// Gives each head's best `counts` the largest number that there is.
fn mark(scores: &mut Scores, counts: &[usize]) -> Result<()> {
    for (head, &count) in counts.iter().enumerate() {
        for slot in topk(scores.row(head), count)? {
            scores.row_mut(head)[slot as usize] = f32::MAX;
        }
    }
    Ok(())
}

/// Weighs what is not marked. (kvpress's adaptive variant weighs the marked ones too, which makes them infinite and changes nothing.)
fn weigh<B: Block>(stage: &SecondStage, layer: &LayerInput<B>, scores: &mut Scores) -> Result<()> {
    for (head, weights) in stage.weights(layer)?.into_iter().enumerate() {
        let open = scores.row_mut(head).iter_mut().zip(weights).filter(|(score, _)| **score != f32::MAX);
        open.for_each(|(score, weight)| *score = stage.weigh(*score, weight));
    }
    Ok(())
}

/// A lazy layer keeps its first slots and `recent − last` of the last ones: other ones than were measured.
fn sim_layer<B: Block>(filter: &SimLayer, layer: &LayerInput<B>) -> Result<Ragged<u32>> {
    let (heads, seen) = (layer.heads.len(), layer.seen);
    match filter.is_lazy(layer)? {
        true => Ok(super::ends(heads, seen, filter.initial, filter.recent - filter.last)),
        false => Ok(super::everything(heads, seen)),
    }
}

/// `max(1, int(chunks · (1 − r)))` whole chunks, a partial last one counted as one, the same in every head.
fn best_chunks<B: Block>(
    chunks: &Chunks,
    layer: &LayerInput<B>,
    scores: &Scores,
    policy: &Policy,
) -> Result<Ragged<u32>> {
    if chunks.reuse != 1 {
        return Err(Compat::Kvpress.lacks("index reuse"));
    }
    let seen = layer.seen;
    let joined: Vec<f32> = (0..seen).map(|slot| scores.iter().map(|row| row[slot]).sum()).collect();
    let positions: Vec<u32> = (0..seen as u32).collect();
    let best = selectors::best_chunks(&joined, &positions, chunks.length);
    let count = n_kept(wanted_of(policy.budget, seen, best.len()));
    let mut row: Vec<u32> = best.into_iter().take(count).flatten().collect();
    row.sort_unstable();
    Ok(Ragged::from_rows(scores.iter().map(|_| row.clone())))
}

/// `max(1, int(length · (1 − r)))` of every chunk.
fn top_of_chunks(chunks: &PerChunk, scores: &Scores, policy: &Policy) -> Result<Ragged<u32>> {
    let rows = scores.iter().map(|row| {
        let parts = row.chunks(chunks.length).enumerate().map(|(index, part)| {
            let start = (index * chunks.length) as u32;
            let best = topk(part, n_kept(wanted_of(policy.budget, row.len(), part.len())))?;
            Ok(best.into_iter().map(|slot| start + slot).collect())
        });
        Ok(parts.collect::<Result<Vec<Vec<u32>>>>()?.concat())
    });
    Ok(Ragged::from_rows(rows.collect::<Result<Vec<_>>>()?))
}
