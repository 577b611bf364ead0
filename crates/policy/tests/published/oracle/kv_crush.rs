//! KVCrush, arXiv 2503.00022 (Intel; OpenVINO GenAI `kvcrush.cpp`, vLLM pull request).
//!
//! Formula: a token's signature is one bit per head, 1 where that head's own policy keeps the token. Next to the tokens kept by
//! importance, part of the budget goes to representatives of the rest: sort the candidates by the Hamming distance of their
//! signature to ONE anchor signature and take evenly spaced ones (a cheap clustering: one distance per token).
//!
//! Parameters: share of the budget for representatives 25% or so; anchor random, mean, alternating, zeros or ones.
//!
//! Open or in disagreement: (1) Spacing over n sorted candidates: OpenVINO takes index i·⌊n/count⌋ (never reaches the far end),
//! the vLLM code ⌊linspace(0, n - 1, count)⌋ (both ends). `Spacing` has both; OpenVINO's is the default of `representatives`.
//! (2) Ties in distance are unordered in both codes (unstable sorts); lower index first here. With few heads nearly
//! everything is a tie, so this decides most of the result. (3) The mean anchor is the majority bit (mean > 0.5, strictly) over ALL
//! tokens, kept ones included. (4) Both codes work on pages: signature = the page's per-token bits "in the upper half of the
//! scores", one set for all heads (OpenVINO) or concatenated over heads (vLLM); feed such bits in the same way.
//! (5) "1 = kept": the paper's bits come from each head's threshold at the same budget.
//!
//! Property: `count` representatives, all of them candidates, all different; permuting the heads (bits and anchor alike) changes
//! nothing; with the zeros anchor the distance is the number of heads that keep the token.

#[derive(Clone)]
pub enum Anchor {
    Zeros,
    Ones,
    /// 0, 1, 0, 1, ... by head.
    Alternating,
    /// The majority bit of each head.
    Mean,
    /// For instance a random one.
    Given(Vec<bool>),
}

#[derive(Clone, Copy, PartialEq)]
pub enum Spacing {
    Step,
    Ends,
}

/// The anchor's bits for `keep_bits` = [heads][tokens].
pub fn anchor_bits(keep_bits: &[Vec<bool>], anchor: &Anchor) -> Vec<bool> {
    let heads = keep_bits.len();
    match anchor {
        Anchor::Zeros => vec![false; heads],
        Anchor::Ones => vec![true; heads],
        Anchor::Alternating => (0..heads).map(|h| h % 2 == 1).collect(),
        Anchor::Mean => keep_bits.iter().map(|bits| 2 * bits.iter().filter(|&&b| b).count() > bits.len()).collect(),
        Anchor::Given(bits) => bits.clone(),
    }
}

/// Candidates by distance to the anchor, ties to the lower token.
pub fn by_distance(keep_bits: &[Vec<bool>], candidates: &[usize], anchor: &Anchor) -> Vec<usize> {
    let anchor = anchor_bits(keep_bits, anchor);
    let distance = |token: usize| keep_bits.iter().zip(&anchor).filter(|(bits, a)| bits[token] != **a).count();
    let mut order = candidates.to_vec();
    order.sort_by_key(|&token| (distance(token), token));
    order
}

/// Ascending tokens.
pub fn representatives(keep_bits: &[Vec<bool>], candidates: &[usize], count: usize, anchor: Anchor) -> Vec<usize> {
    representatives_spaced(keep_bits, candidates, count, anchor, Spacing::Step)
}

pub fn representatives_spaced(
    keep_bits: &[Vec<bool>],
    candidates: &[usize],
    count: usize,
    anchor: Anchor,
    spacing: Spacing,
) -> Vec<usize> {
    let order = by_distance(keep_bits, candidates, &anchor);
    let count = count.min(order.len());
    let mut out: Vec<usize> = (0..count)
        .map(|i| match spacing {
            Spacing::Step => order[i * (order.len() / count)],
            Spacing::Ends if count == 1 => order[0],
            Spacing::Ends => order[i * (order.len() - 1) / (count - 1)],
        })
        .collect();
    out.sort_unstable();
    out
}
