//! Top-k on the CPU: the k-th score by quickselect, then one pass that takes what is above it and the first of its equals.

/// Slots of the `k` highest, ascending. No NaN, `k <= scores.len()`.
pub fn topk(scores: &[f32], k: usize) -> Vec<u32> {
    let Some(Threshold { key, mut equals }) = threshold(scores, k) else { return Vec::new() };
    let slots = scores.iter().zip(0..).map(|(&score, slot)| {
        let rank = order(score);
        let equal = rank == key && equals > 0;
        equals -= equal as usize;
        (slot, rank > key || equal)
    });
    collect(k, slots).expect("the threshold lets exactly k scores through")
}

/// The items that are wanted, unless they are more than `most`. Every item is written and an unwanted one overwritten by the next:
/// scores are in no order, and a branch would be mispredicted each time they cross the threshold.
pub(crate) fn collect(most: usize, items: impl Iterator<Item = (u32, bool)>) -> Option<Vec<u32>> {
    let mut out = vec![0; most + 1];
    let mut len = 0;
    for (item, wanted) in items {
        out[len.min(most)] = item;
        len += wanted as usize;
    }
    out.truncate(len);
    (len <= most).then_some(out)
}

/// What separates the `k` highest from the rest: everything above `key`, and `equals` of those that equal it.
pub(crate) struct Threshold {
    pub key: u32,
    pub equals: usize,
}

/// Scores that are looked at to guess where the threshold lies.
const SAMPLE: usize = 1024;

/// The threshold of the `k` highest of all scores; none for `k = 0`. A sample tells which scores are surely too low, and quickselect sees
/// only the others (after Floyd and Rivest 1975).
pub(crate) fn threshold(scores: &[f32], k: usize) -> Option<Threshold> {
    if k == 0 {
        return None;
    }
    let mut keys = candidates(scores, k).unwrap_or_else(|| scores.iter().map(|&score| order(score)).collect());
    let (_, &mut key, _) = keys.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
    let above = keys[..k].iter().filter(|&&other| other > key).count();
    Some(Threshold { key, equals: k - above })
}

/// The keys of all scores from some bound on, if they are enough for the `k` highest and much fewer than all.
fn candidates(scores: &[f32], k: usize) -> Option<Vec<u32>> {
    // Where the threshold is expected in the sample, and five standard deviations more.
    let expected = SAMPLE as f64 * k as f64 / scores.len() as f64;
    let rank = expected + 5.0 * expected.sqrt() + 5.0;
    if scores.len() < 8 * SAMPLE || rank > 0.7 * SAMPLE as f64 {
        return None;
    }
    let mut sample = [0; SAMPLE];
    for (key, &score) in sample.iter_mut().zip(scores.iter().step_by(scores.len() / SAMPLE)) {
        *key = order(score);
    }
    let (_, &mut bound, _) = sample.select_nth_unstable_by(rank as usize, |a, b| b.cmp(a));
    let most = 2 * rank as usize * (scores.len() / SAMPLE);
    let keys = scores.iter().map(|&score| order(score));
    collect(most, keys.map(|key| (key, key >= bound))).filter(|keys| keys.len() >= k)
}

/// An integer that orders as the number does.
pub(crate) fn order(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // -0 becomes +0
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}
