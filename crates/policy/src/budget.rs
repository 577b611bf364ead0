//! Budgets, and the one place where they become counts.

use headwise_core::{Error, Result};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// How much of the cache may stay. Exactly one of the four.
///
/// `{ tokensPerHead: n }` keeps n slots a head on average. `{ keep: f }` keeps the fraction f of the tokens seen,
/// n = max(1, floor(T · f)), 0 < f ≤ 1. `{ ratio: r }` is kvpress's `compression_ratio`, n = max(1, trunc(T · (1 − r))),
/// 0 ≤ r < 1. `{ bytes: b }` bounds the logical bytes of the whole session. T counts the tokens seen, not the slots left.
/// Layers and heads share the total as allocator and selector say; protected slots count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Budget {
    /// Slots per head on average, protected ones included.
    TokensPerHead(usize),
    /// Fraction of the tokens seen that is kept, in (0, 1].
    Keep(f64),
    /// Fraction of the tokens seen that is dropped, in [0, 1) (kvpress).
    Ratio(f64),
    /// Logical bytes of the whole session.
    Bytes(usize),
}

impl Budget {
    /// [`Error::InvalidArgument`] when a number is out of its range.
    pub fn validate(&self) -> Result<()> {
        match *self {
            Self::TokensPerHead(0) => Err(Error::invalid("budget.tokensPerHead", 0, "at least 1")),
            Self::Bytes(0) => Err(Error::invalid("budget.bytes", 0, "at least 1")),
            Self::Keep(keep) if !(keep > 0.0 && keep <= 1.0) => {
                Err(Error::invalid("budget.keep", keep, "more than 0, at most 1"))
            }
            Self::Ratio(ratio) if !(0.0..1.0).contains(&ratio) => {
                Err(Error::invalid("budget.ratio", ratio, "at least 0, less than 1"))
            }
            _ => Ok(()),
        }
    }

    /// Slots that a session of `heads` (layer, KV head) pairs may hold in all after `seen` tokens, `slot_bytes` logical
    /// bytes each. Fractions are taken in f64 and cut off, at least one slot a head.
    pub fn slots(&self, seen: usize, heads: usize, slot_bytes: usize) -> usize {
        match *self {
            Self::TokensPerHead(tokens) => tokens.saturating_mul(heads),
            Self::Keep(keep) => at_least_one(seen as f64 * keep).saturating_mul(heads),
            Self::Ratio(ratio) => at_least_one(seen as f64 * (1.0 - ratio)).saturating_mul(heads),
            Self::Bytes(bytes) => bytes / slot_bytes.max(1),
        }
    }

    /// Whether no cache can be above this budget, so that nothing has to be observed.
    pub fn is_everything(&self) -> bool {
        matches!(*self, Self::Keep(1.0) | Self::Ratio(0.0))
    }
}

fn at_least_one(tokens: f64) -> usize {
    (tokens as usize).max(1)
}

/// Splits `total` into integers in proportion to `weights`, none above its cap: largest remainder, ties to the lower index.
/// What a full entry cannot take goes to the others in proportion. The parts sum to exactly `min(total, Σ caps)`.
/// Weights are finite and not negative; where all that is left weighs nothing, it is shared equally.
pub fn apportion(total: usize, weights: &[f64], caps: &[usize]) -> Vec<usize> {
    let mut parts = vec![0; caps.len()];
    let mut open: Vec<usize> = (0..caps.len()).filter(|&i| caps[i] > 0).collect();
    let mut left = total.min(caps.iter().fold(0, |sum: usize, &cap| sum.saturating_add(cap)));
    let quotas = loop {
        let sum: f64 = open.iter().map(|&i| weights[i]).sum();
        let quota = |i: usize| match sum > 0.0 {
            true => left as f64 * weights[i] / sum,
            false => left as f64 / open.len() as f64,
        };
        let quotas: Vec<f64> = open.iter().map(|&i| quota(i)).collect();
        let full: Vec<bool> = open.iter().zip(&quotas).map(|(&i, &quota)| quota >= caps[i] as f64).collect();
        if !full.contains(&true) {
            break quotas;
        }
        for (&i, _) in open.iter().zip(&full).filter(|(_, full)| **full) {
            parts[i] = caps[i].min(left);
            left -= parts[i];
        }
        let mut full = full.into_iter();
        open.retain(|_| !full.next().unwrap_or(false));
    };
    for (&i, &quota) in open.iter().zip(&quotas) {
        parts[i] = (quota as usize).min(left);
        left -= parts[i];
    }
    let mut order: Vec<usize> = (0..open.len()).collect();
    order.sort_by(|&a, &b| quotas[b].fract().total_cmp(&quotas[a].fract()));
    for &k in order.iter().cycle() {
        if left == 0 {
            break;
        }
        if parts[open[k]] < caps[open[k]] {
            parts[open[k]] += 1;
            left -= 1;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn largest_remainder_gives_the_rest_to_the_lower_index() {
        assert_eq!(apportion(10, &[1.0, 1.0, 1.0], &[99; 3]), [4, 3, 3]);
        assert_eq!(apportion(11, &[1.0, 1.0, 1.0], &[99; 3]), [4, 4, 3]);
        assert_eq!(apportion(10, &[3.0, 6.0, 1.0], &[99; 3]), [3, 6, 1]);
        assert_eq!(apportion(3, &[1.4, 1.6, 0.0], &[99; 3]), [1, 2, 0]);
    }

    #[test]
    fn what_a_full_entry_cannot_take_goes_to_the_others() {
        assert_eq!(apportion(10, &[1.0, 1.0, 1.0], &[1, 99, 99]), [1, 5, 4]);
        assert_eq!(apportion(10, &[1.0, 0.0, 0.0], &[4, 99, 99]), [4, 3, 3]);
        assert_eq!(apportion(100, &[1.0, 2.0], &[3, 4]), [3, 4]);
        assert_eq!(apportion(5, &[], &[]), [0usize; 0]);
    }

    #[test]
    fn fractions_are_cut_off_in_double_precision() {
        assert_eq!(Budget::Ratio(0.9).slots(100, 1, 1), 9, "100 · (1 − 0.9) = 9.999999999999998");
        assert_eq!(Budget::Keep(0.2).slots(1004, 90, 1), 200 * 90);
        assert_eq!(Budget::Keep(0.001).slots(10, 3, 1), 3);
        assert_eq!(Budget::Bytes(1000).slots(10, 3, 256), 3);
    }

    proptest! {
        #[test]
        fn the_parts_sum_to_the_total_or_to_all_there_is(
            total in 0usize..5000,
            entries in prop::collection::vec((0.0f64..10.0, 0usize..300), 0..40),
        ) {
            let (weights, caps): (Vec<f64>, Vec<usize>) = entries.into_iter().unzip();
            let parts = apportion(total, &weights, &caps);
            prop_assert_eq!(parts.iter().sum::<usize>(), total.min(caps.iter().sum()));
            prop_assert!(parts.iter().zip(&caps).all(|(part, cap)| part <= cap));
            // No entry that had room is more than one slot below its plain share.
            let sum: f64 = weights.iter().sum();
            for ((&part, &cap), &weight) in parts.iter().zip(&caps).zip(&weights).filter(|_| sum > 0.0) {
                prop_assert!(part == cap || part as f64 > total.min(caps.iter().sum()) as f64 * weight / sum - 1.0);
            }
        }
    }
}
