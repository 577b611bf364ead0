//! Zefan-Cai/KVCache-Factory at commit c97f9d70.

use headwise_core::{Ragged, Result};
use headwise_kernels::Block;

use super::{Compat, before_window, capacity, ends, everything, integer_layer, top_and_window};
use crate::{Allocator, LayerInput, Policy, Score, Scorer, Selector};

pub(super) fn lengths(policy: &Policy, seen: usize, layers: usize) -> Result<Vec<usize>> {
    match (&policy.scorer, &policy.selector, &policy.allocator) {
        (Scorer::SnapKV(_), Selector::PerHead(_), _) => {}
        (Scorer::Recency(_) | Scorer::H2O(_), Selector::PerHead(_), Allocator::Uniform(_)) => {}
        (scorer, ..) => return Err(Compat::KvcacheFactory.lacks(&format!("this composition over {}", scorer.kind()))),
    }
    let capacity = capacity(policy, seen)?;
    let window = policy.scorer.window() as i64;
    let total = seen as i64;
    let of = |layer| {
        let length = if total < capacity {
            total
        } else if matches!(policy.allocator, Allocator::Uniform(_)) || total < 2 * (capacity - window) {
            capacity
        } else {
            integer_layer(policy, capacity, seen, layer, layers) + window
        };
        length.clamp(0, total) as usize
    };
    Ok((0..layers).map(of).collect())
}

pub(super) fn select<B: Block>(policy: &Policy, layer: &LayerInput<B>) -> Result<Ragged<u32>> {
    let (seen, heads) = (layer.seen, layer.heads.len());
    let kept = lengths(policy, seen, layer.shape.layers)?[layer.layer];
    let window = policy.scorer.window();
    if kept == seen {
        return Ok(everything(heads, seen));
    }
    if let Scorer::Recency(_) = policy.scorer {
        return Ok(ends(heads, seen, kept.saturating_sub(window), window));
    }
    let scores = before_window(&policy.score(layer)?, window);
    top_and_window(&scores, &vec![kept.saturating_sub(window); heads], seen)
}
