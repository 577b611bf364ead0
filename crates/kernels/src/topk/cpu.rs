//! Top-k on the CPU: the k-th score by quickselect among those that it can be, then one pass that takes what is above it and the first of its equals.
//!
//! Scores are in no order, and a branch for each would be mispredicted whenever they cross a bound: 64 are compared at a time, and the bits of those that
//! are wanted are gone through.

use crate::dispatch;
use crate::simd::Level;
use crate::simd_vector::{Vector, VectorOf};

/// Slots of the `k` highest, ascending. No NaN, `k <= scores.len()`.
pub fn topk(level: Level, scores: &[f32], k: usize) -> Vec<u32> {
    match threshold(level, scores, k) {
        Some(Threshold { score, equals }) => take(level, scores, score, equals, k),
        None => Vec::new(),
    }
}

/// What separates the `k` highest from the rest: everything above `score`, and `equals` of those that equal it.
pub(crate) struct Threshold {
    pub score: f32,
    pub equals: usize,
}

/// Of so many scores one is looked at to guess where the threshold lies.
const SAMPLE_OF: usize = 8;
/// The most that are looked at for that.
const SAMPLE: usize = 4096;

/// The threshold of the `k` highest of all scores; none for `k = 0`. A sample tells between which scores it lies, give or take three standard deviations, and
/// quickselect sees only those (after Floyd and Rivest 1975), or all where the sample erred.
pub(crate) fn threshold(level: Level, scores: &[f32], k: usize) -> Option<Threshold> {
    if k == 0 {
        return None;
    }
    let mut keys = Vec::new();
    let mut above = 0;
    let found = bounds(scores, k).is_some_and(|(low, high)| {
        above = between(level, scores, low, high, &mut keys);
        above < k && k - above <= keys.len()
    });
    if !found {
        above = 0;
        keys = scores.iter().map(|&score| order(score)).collect();
    }
    let wanted = k - above;
    let (higher, &mut key, _) = keys.select_nth_unstable_by(wanted - 1, |a, b| b.cmp(a));
    let equals = wanted - higher.iter().filter(|&&other| other > key).count();
    Some(Threshold { score: number(key), equals })
}

/// Scores that the `k`-th highest lies between, if a sample can tell.
fn bounds(scores: &[f32], k: usize) -> Option<(f32, f32)> {
    let size = SAMPLE.min(scores.len() / SAMPLE_OF);
    let expected = size as f64 * k as f64 / scores.len() as f64;
    let reach = 3.0 * (expected * (1.0 - k as f64 / scores.len() as f64)).sqrt() + 2.0;
    let (first, last) = (expected - reach, expected + reach);
    if last - first > 0.5 * size as f64 {
        return None;
    }
    let step = scores.len() / size;
    let mut sample: Vec<u32> = scores.iter().step_by(step).take(size).map(|&score| order(score)).collect();
    let low = match last as usize {
        last if last < size => {
            let (_, &mut low, _) = sample.select_nth_unstable_by(last, |a, b| b.cmp(a));
            number(low)
        }
        _ => f32::NEG_INFINITY,
    };
    let high = match first {
        first if first >= 1.0 => {
            let end = (last as usize).min(size);
            let (_, &mut high, _) = sample[..end].select_nth_unstable_by(first as usize, |a, b| b.cmp(a));
            number(high)
        }
        _ => f32::INFINITY,
    };
    Some((low, high))
}

dispatch! {
    /// Counts the scores above `high`, and collects the keys of those from `low` to `high`.
    fn between(level, scores: &[f32], low: f32, high: f32, keys: &mut Vec<u32>) -> usize = between_body::<VectorOf<Target>>;
}
dispatch! {
    /// Slots of all scores above `bound` and the first `equals` of those that equal it, ascending; they are no more than `most`.
    pub(crate) fn take(level, scores: &[f32], bound: f32, equals: usize, most: usize) -> Vec<u32> = take_body::<VectorOf<Target>>;
}
dispatch! {
    /// Slots of all scores that equal `bound`, ascending.
    pub(crate) fn equal(level, scores: &[f32], bound: f32) -> Vec<u32> = equal_body::<VectorOf<Target>>;
}

/// Scores whose comparisons are held in the bits of a word.
const WORD: usize = 64;

/// Bits of the scores that are at least `bound`, and of those that are above it. Bits of scores that are not there are zeros.
#[inline(always)]
fn compare<V: Vector>(scores: &[f32], bound: f32) -> (u64, u64) {
    let (mut at_least, mut above) = (0, 0);
    let vectors = scores.chunks_exact(V::LANES);
    let rest = vectors.remainder();
    let at = scores.len() - rest.len();
    for (i, scores) in vectors.enumerate() {
        let (scores, bound) = (V::load(scores), V::splat(bound));
        at_least |= u64::from(scores.at_least(bound)) << (i * V::LANES);
        above |= u64::from(bound.at_least(scores)) << (i * V::LANES);
    }
    above = !above & low_bits(at);
    for (i, &score) in rest.iter().enumerate() {
        at_least |= u64::from(score >= bound) << (at + i);
        above |= u64::from(score > bound) << (at + i);
    }
    (at_least, above)
}

/// The lowest `n` bits, up to all 64.
#[inline(always)]
fn low_bits(n: usize) -> u64 {
    if n == WORD { u64::MAX } else { (1 << n) - 1 }
}

#[inline(always)]
fn each_bit(mut bits: u64, mut f: impl FnMut(usize)) {
    while bits != 0 {
        f(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

#[inline(always)]
fn between_body<V: Vector>(scores: &[f32], low: f32, high: f32, keys: &mut Vec<u32>) -> usize {
    let mut count = 0;
    for scores in scores.chunks(WORD) {
        let (from_low, _) = compare::<V>(scores, low);
        let (_, above) = compare::<V>(scores, high);
        count += above.count_ones() as usize;
        each_bit(from_low & !above, |i| keys.push(order(scores[i])));
    }
    count
}

#[inline(always)]
fn take_body<V: Vector>(scores: &[f32], bound: f32, mut equals: usize, most: usize) -> Vec<u32> {
    let mut slots = Vec::with_capacity(most);
    for (first, scores) in (0u32..).step_by(WORD).zip(scores.chunks(WORD)) {
        let (at_least, mut wanted) = compare::<V>(scores, bound);
        let mut equal = at_least & !wanted;
        while equal != 0 && equals > 0 {
            wanted |= equal & equal.wrapping_neg();
            equal &= equal - 1;
            equals -= 1;
        }
        each_bit(wanted, |i| slots.push(first + i as u32));
    }
    slots
}

#[inline(always)]
fn equal_body<V: Vector>(scores: &[f32], bound: f32) -> Vec<u32> {
    let mut slots = Vec::new();
    for (first, scores) in (0u32..).step_by(WORD).zip(scores.chunks(WORD)) {
        let (at_least, above) = compare::<V>(scores, bound);
        each_bit(at_least & !above, |i| slots.push(first + i as u32));
    }
    slots
}

/// An integer that orders as the number does.
fn order(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // -0 becomes +0
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The number that [`order`] makes this of.
fn number(order: u32) -> f32 {
    f32::from_bits(if order >> 31 == 1 { order & !(1 << 31) } else { !order })
}
