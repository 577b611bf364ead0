//! FFY0/AdaKV at commit efe4e2ee.

use headwise_core::{Error, Ragged, Result, Scores};
use headwise_kernels::Block;

use super::{Compat, before_window, capacity, ends, everything, integer_layer, top_and_window};
use crate::{AcrossHeads, LayerInput, Policy, Score, Scorer, Selector};

fn known(policy: &Policy) -> Result<()> {
    match (&policy.scorer, &policy.selector) {
        (Scorer::SnapKV(_), Selector::PerHead(_) | Selector::AcrossHeads(_)) => Ok(()),
        (Scorer::Recency(_), Selector::PerHead(_)) => Ok(()),
        (scorer, _) => Err(Compat::Adakv.lacks(&format!("this composition over {}", scorer.kind()))),
    }
}

pub(super) fn lengths(policy: &Policy, seen: usize, layers: usize) -> Result<Vec<usize>> {
    known(policy)?;
    let capacity = capacity(policy, seen)?;
    let window = policy.scorer.window() as i64;
    let of = |layer| (integer_layer(policy, capacity, seen, layer, layers) + window).clamp(0, seen as i64) as usize;
    Ok((0..layers).map(of).collect())
}

/// How many slots before the window each head keeps, from scores without the window; `base` is the layer's even share.
/// Rounded head by head in f32, so that their sum is not always heads · base.
pub fn capacities(ada: &AcrossHeads, scores: &Scores, base: usize) -> Result<Vec<usize>> {
    let counts = ada.wins(scores, scores.rows() * base, base)?;
    let floor = (base as f64 * ada.floor) as usize as f32;
    let rounded =
        counts.iter().map(|&count| (count as f32 * (1.0 - ada.floor) as f32 + floor).round_ties_even() as usize);
    Ok(rounded.zip(scores.iter()).map(|(capacity, row)| capacity.min(row.len())).collect())
}

pub(super) fn select<B: Block>(policy: &Policy, layer: &LayerInput<B>) -> Result<Ragged<u32>> {
    known(policy)?;
    let (seen, heads) = (layer.seen, layer.heads.len());
    let capacity = capacity(policy, seen)?;
    if let Scorer::Recency(_) = policy.scorer {
        if (seen as i64) < capacity {
            return Ok(everything(heads, seen));
        }
        let sinks = policy.protect.sinks;
        let Some(recent) = (capacity as usize).checked_sub(sinks) else {
            let what = format!("{sinks} sinks; per head");
            return Err(Error::BudgetBelowProtected { budget: capacity as usize, protected: sinks, what });
        };
        return Ok(ends(heads, seen, sinks, recent));
    }
    let window = policy.scorer.window();
    let base = integer_layer(policy, capacity, seen, layer.layer, layer.shape.layers);
    let room = seen as i64 - window as i64;
    let all = match policy.selector {
        Selector::AcrossHeads(_) => base > room,
        _ => (seen as i64) < base + window as i64,
    };
    if all || room < 0 {
        return Ok(everything(heads, seen));
    }
    let (base, scores) = (base.max(0) as usize, before_window(&policy.score(layer)?, window));
    let counts = match &policy.selector {
        Selector::AcrossHeads(ada) => capacities(ada, &scores, base)?,
        _ => vec![base; heads],
    };
    top_and_window(&scores, &counts, seen)
}
