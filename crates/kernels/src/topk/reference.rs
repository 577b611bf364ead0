//! Top-k by a stable sort.

/// Slots of the `k` highest, ascending. No NaN.
pub fn topk(scores: &[f32], k: usize) -> Vec<u32> {
    let mut slots: Vec<u32> = (0..scores.len() as u32).collect();
    slots.sort_by(|&a, &b| scores[b as usize].partial_cmp(&scores[a as usize]).expect("no NaN"));
    slots.truncate(k);
    slots.sort_unstable();
    slots
}
