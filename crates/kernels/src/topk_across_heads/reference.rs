//! Top-k across heads by sorting all (score, slot, head).

use headwise_core::{Ragged, Scores};

/// Per head the slots among the `k` highest, ascending. No NaN.
pub fn topk_across_heads(scores: &Scores, k: usize) -> Ragged<u32> {
    let mut all: Vec<(f32, u32, usize)> = Vec::new();
    for (head, row) in scores.iter().enumerate() {
        all.extend(row.iter().enumerate().map(|(slot, &score)| (score, slot as u32, head)));
    }
    all.sort_by(|a, b| b.0.partial_cmp(&a.0).expect("no NaN").then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut rows = vec![Vec::new(); scores.rows()];
    for &(_, slot, head) in &all[..k] {
        rows[head].push(slot);
    }
    rows.iter_mut().for_each(|row| row.sort_unstable());
    Ragged::from_rows(rows)
}
