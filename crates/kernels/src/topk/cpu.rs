//! Top-k on the CPU: the k-th score by quickselect, then one pass that takes what is above it and the first of its equals.

/// Slots of the `k` highest, ascending. No NaN, `k <= scores.len()`.
pub fn topk(scores: &[f32], k: usize) -> Vec<u32> {
    let Some(Threshold { key, mut equals }) = threshold(scores, k) else { return Vec::new() };
    let mut slots = Vec::with_capacity(k);
    for (slot, &score) in scores.iter().enumerate() {
        let rank = order(score);
        if rank > key || (rank == key && equals > 0) {
            equals -= (rank == key) as usize;
            slots.push(slot as u32);
        }
    }
    slots
}

/// What separates the `k` highest from the rest: everything above `key`, and `equals` of those that equal it.
pub(crate) struct Threshold {
    pub key: u32,
    pub equals: usize,
}

/// The threshold of the `k` highest; none for `k = 0`.
pub(crate) fn threshold(scores: &[f32], k: usize) -> Option<Threshold> {
    if k == 0 {
        return None;
    }
    let mut keys: Vec<u32> = scores.iter().map(|&score| order(score)).collect();
    let (_, &mut key, _) = keys.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
    let above = keys[..k].iter().filter(|&&other| other > key).count();
    Some(Threshold { key, equals: k - above })
}

/// An integer that orders as the number does.
pub(crate) fn order(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // -0 becomes +0
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}
