//! Top-k across heads on the CPU: the k-th score by quickselect over all heads, its equals by quickselect over (slot, head).

use crate::topk::cpu::{Threshold, collect, order, threshold};
use headwise_core::{Ragged, Scores};

/// Per head the slots among the `k` highest, ascending. No NaN, `k` at most the number of scores.
pub fn topk_across_heads(scores: &Scores, k: usize) -> Ragged<u32> {
    let Some(Threshold { key, equals }) = threshold(scores.data(), k) else {
        return Ragged::from_rows(vec![Vec::new(); scores.rows()]);
    };
    let mut candidates: Vec<(u32, u32)> = Vec::new();
    for (head, row) in scores.iter().enumerate() {
        let slots = row.iter().enumerate().filter(|&(_, &score)| order(score) == key);
        candidates.extend(slots.map(|(slot, _)| (slot as u32, head as u32)));
    }
    // `equals` is at least 1: the k-th score itself.
    let (_, &mut last, _) = candidates.select_nth_unstable(equals - 1);
    Ragged::from_rows(scores.iter().enumerate().map(|(head, row)| {
        let stays = |slot: u32, rank: u32| rank > key || (rank == key && (slot, head as u32) <= last);
        let slots = row.iter().zip(0..).map(|(&score, slot)| (slot, stays(slot, order(score))));
        collect(k.min(row.len()), slots).expect("no more than all, and no more than k")
    }))
}
