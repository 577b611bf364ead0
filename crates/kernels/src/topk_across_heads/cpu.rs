//! Top-k across heads on the CPU: the k-th score by quickselect over all heads, its equals by quickselect over (slot, head).

use crate::simd::Level;
use crate::topk::cpu::{Threshold, equal, take, threshold};
use headwise_core::{Ragged, Scores};

/// Per head the slots among the `k` highest, ascending. No NaN, `k` at most the number of scores.
pub fn topk_across_heads(level: Level, scores: &Scores, k: usize) -> Ragged<u32> {
    let Some(Threshold { score, equals }) = threshold(level, scores.data(), k) else {
        return Ragged::from_rows(vec![Vec::new(); scores.rows()]);
    };
    let candidates: Vec<Vec<u32>> = scores.iter().map(|row| equal(level, row, score)).collect();
    let of_heads = candidates.iter().zip(0u32..).flat_map(|(slots, head)| slots.iter().map(move |&slot| (slot, head)));
    // `equals` is at least 1: the k-th score itself.
    let (_, &mut last, _) = of_heads.collect::<Vec<_>>().select_nth_unstable(equals - 1);
    let rows = scores.iter().zip(&candidates).zip(0u32..);
    Ragged::from_rows(rows.map(|((row, candidates), head)| {
        let stay = candidates.partition_point(|&slot| (slot, head) <= last);
        take(level, row, score, stay, k.min(row.len()))
    }))
}
