//! Top-k on the CPU: the k-th score by counting and quickselect, then one pass that takes what is above it and the first of its equals.

/// Slots of the `k` highest, ascending. No NaN, `k <= scores.len()`.
pub fn topk(scores: &[f32], k: usize) -> Vec<u32> {
    let Some(Threshold { key, mut equals }) = threshold(scores, k) else { return Vec::new() };
    collect(
        k,
        scores.iter().zip(0..).map(|(&score, slot)| {
            let rank = order(score);
            let equal = rank == key && equals > 0;
            equals -= equal as usize;
            (slot, rank > key || equal)
        }),
    )
}

/// The items that are wanted, at most `most`. Every item is written and an unwanted one overwritten by the next: scores are in no order, and a
/// branch would be mispredicted each time they cross the threshold.
pub(crate) fn collect(most: usize, items: impl Iterator<Item = (u32, bool)>) -> Vec<u32> {
    let mut out = vec![0; most + 1];
    let mut len = 0;
    for (item, wanted) in items {
        out[len] = item;
        len += wanted as usize;
    }
    out.truncate(len);
    out
}

/// What separates the `k` highest from the rest: everything above `key`, and `equals` of those that equal it.
pub(crate) struct Threshold {
    pub key: u32,
    pub equals: usize,
}

/// Upper bits of a key that are counted first: a table of counts that stays in the first-level cache.
const DIGIT: u32 = 11;

/// The threshold of the `k` highest of all scores; none for `k = 0`. Counts by the upper bits of the keys, which finds the digit
/// that the k-th score has, then selects among the few that share it.
pub(crate) fn threshold(scores: &[f32], k: usize) -> Option<Threshold> {
    if k == 0 {
        return None;
    }
    // Four tables, because equal digits in a row would wait for each other's count.
    let mut counts = [[0u32; 1 << DIGIT]; 4];
    let digit = |score: f32| (order(score) >> (32 - DIGIT)) as usize;
    let (fours, rest) = scores.as_chunks::<4>();
    for four in fours {
        for (counts, &score) in counts.iter_mut().zip(four) {
            counts[digit(score)] += 1;
        }
    }
    rest.iter().for_each(|&score| counts[0][digit(score)] += 1);
    let mut above = 0;
    let (mut found, mut count) = (0, 0);
    for index in (0..1 << DIGIT).rev() {
        count = counts.iter().map(|counts| counts[index] as usize).sum();
        if above + count >= k {
            found = index;
            break;
        }
        above += count;
    }
    let mut keys = collect(count, scores.iter().map(|&score| (order(score), digit(score) == found)));
    let among = k - above;
    let (_, &mut key, _) = keys.select_nth_unstable_by(among - 1, |a, b| b.cmp(a));
    let higher = keys[..among].iter().filter(|&&other| other > key).count();
    Some(Threshold { key, equals: among - higher })
}

/// An integer that orders as the number does.
pub(crate) fn order(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // -0 becomes +0
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}
