//! FastGen, arXiv 2310.01801 (ICLR 2024).
//!
//! Formula: per head, take the cheapest of the nested policies {special} ⊂ {+ punctuation} ⊂ {+ frequent} ⊂ {+ local} ⊂ {all} whose
//! attention map stays within 1 - T of the full one; keep applying that policy while decoding.
//!
//! Parameters: T = 0.95 or so, local ratio r_l = 0.3, frequent ratio r_f = 0.3 (of the current length).
//!
//! Open or in disagreement:
//! (1) The distance: the paper writes |A - softmax(Q K_Cᵀ)| without naming a norm or the averaging. Here: the share of the map's
//!     mass that falls on kept tokens, averaged over the rows given, is ≥ T. (For one row, re-normalising after the cut gives an L1
//!     distance of exactly twice the missing mass, so the two differ by a factor in T only.)
//! (2) Local, for the test: row at position p recovers tokens with p - t < ⌊r_l · len⌋; for the kept set at the prefill's end: the
//!     last ⌊r_l · len⌋ tokens. Frequent: the ⌊r_f · len⌋ tokens with the largest sum over the given rows, chosen among ALL
//!     tokens (a special token can use up a place), ties to the lower index.
//! (3) Order: frequent before local, as in the paper's equation 2; `kept_in_order` takes any other.
//! (4) A sum over causal rows favours early tokens; the paper accepts that.
//! (5) GQA is not discussed: pass the group's mean rows.
//! (6) Special tokens are those of the tokenizer (e.g. begin of sequence); punctuation is a list of token ids.
//!
//! Property: T = 0 gives the special tokens only, T > 1 everything; the kept set grows with T; a head that attends to the first
//! token alone keeps just the special tokens.

use super::*;

#[derive(Clone, Copy, PartialEq)]
pub enum Class {
    Other,
    Special,
    Punctuation,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Part {
    Special,
    Punctuation,
    Frequent,
    Local,
}

/// `rows`: the last rows of one head's attention map, `[row][len]`, the last row at position len - 1.
pub fn kept(rows: &[Vec<f64>], classes: &[Class], recovery: f64, local: f64, frequent: f64) -> Vec<usize> {
    let order = [Part::Special, Part::Punctuation, Part::Frequent, Part::Local];
    kept_in_order(rows, classes, recovery, local, frequent, &order)
}

/// The same with the parts added in another order; everything is the last resort.
pub fn kept_in_order(
    rows: &[Vec<f64>],
    classes: &[Class],
    recovery: f64,
    local: f64,
    frequent: f64,
    order: &[Part],
) -> Vec<usize> {
    let len = classes.len();
    let near = (local * len as f64).floor() as usize;
    let sums: Vec<f64> = (0..len).map(|i| column(rows, i).iter().sum()).collect();
    let often = top_k(&sums, (frequent * len as f64).floor() as usize);
    for count in 1..=order.len() {
        let parts = &order[..count];
        let holds = |token: usize, position: usize| {
            parts.iter().any(|part| match part {
                Part::Special => classes[token] == Class::Special,
                Part::Punctuation => classes[token] == Class::Punctuation,
                Part::Frequent => often.contains(&token),
                Part::Local => token <= position && position - token < near,
            })
        };
        let recovered: Vec<f64> = rows
            .iter()
            .enumerate()
            .map(|(row, weights)| {
                let position = len - rows.len() + row;
                (0..=position).filter(|&t| holds(t, position)).map(|t| weights[t]).sum()
            })
            .collect();
        if mean(&recovered) >= recovery {
            return (0..len).filter(|&t| holds(t, len - 1)).collect();
        }
    }
    (0..len).collect()
}
