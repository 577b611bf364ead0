//! DynamicKV, arXiv 2412.14838 (code DreamMr/DynamicKV, `dynamic_v11.py`).
//!
//! Formula: the token score is the SnapKV one (attention summed over the window's rows, average pool). Each layer first keeps
//! its best `min(r_max · base, T - w)` tokens per head (base = budget - w). Every m layers: take the `base · heads · layers`
//! largest scores of all layers seen, count them per layer, and turn the counts into budgets that sum to `base · layers`;
//! shorten the earlier layers to their new budget (their tokens are stored best first).
//!
//! Parameters: w = 8 to 64, kernel 5 or 7, r_max = 10, r_min = 0.1 (the code only prints a warning below it), m = 4 or so.
//!
//! What the code does literally, in integers (`layer_budgets_code`): count per layer, integer division by the number of layers
//! seen; normalise; multiply by the first-phase size and truncate; divide by (their sum / (base · ALL layers of the model)),
//! floored; the last layer seen gets whatever is missing. Two surprises: the target is base · ALL layers also while only some have
//! been seen (lengths above the first-phase size are then cut when used), and everything rounded away goes to the last layer.
//!
//! `layer_budgets` is the idealised rule: budgets proportional to the counts, sum exactly `total`, largest remainders first (ties to
//! the lower layer), never under `min_ratio · total / layers` (floored; what the floor costs is taken from the others in
//! proportion to what they have above it), never above what a layer has.
//!
//! Open: (1) which of the two rounding schemes; the proportions agree up to a few tokens when the counts are large. (2) r_min is in
//! the paper's text a floor (as understood; the paper's text was not at hand), in the code a message. (3) GQA: the code works with repeated KV heads; here scores per KV head (group
//! mean). (4) All heads of a layer get the same budget. (5) The pool of scores uses all scored slots here and in the code.
//! (6) Ties in the global top-K to the lower layer, then head, then token.
//!
//! Property: layers with identical scores get identical budgets (up to one token); multiplying one layer's scores by more than 1
//! never lowers its budget; budgets sum to the total.

use super::*;

/// How many of the `k` largest scores fall into each layer.
pub fn counts(scores_of_layers: &[Vec<Vec<f64>>], k: usize) -> Vec<usize> {
    let mut owners = Vec::new();
    let mut flat = Vec::new();
    for (layer, heads) in scores_of_layers.iter().enumerate() {
        for x in heads.iter().flatten() {
            owners.push(layer);
            flat.push(*x);
        }
    }
    let mut out = vec![0; scores_of_layers.len()];
    for i in top_k(&flat, k) {
        out[owners[i]] += 1;
    }
    out
}

/// Tokens per head for each layer; `total` = Σ over layers of the tokens per head (base · layers).
pub fn layer_budgets(scores_of_layers: &[Vec<Vec<f64>>], total: usize, min_ratio: f64) -> Vec<usize> {
    let layers = scores_of_layers.len();
    let heads = scores_of_layers[0].len();
    let capacity: Vec<usize> = scores_of_layers.iter().map(|s| s[0].len()).collect();
    let count = counts(scores_of_layers, total * heads);
    let floor = (min_ratio * total as f64 / layers as f64).floor();
    let sum: usize = count.iter().sum();
    let mut share: Vec<f64> = count.iter().map(|&c| c as f64 / sum as f64 * total as f64).collect();
    let missing: f64 = share.iter().map(|s| (floor - s).max(0.0)).sum();
    let above: f64 = share.iter().map(|s| (s - floor).max(0.0)).sum();
    for s in &mut share {
        *s = if *s <= floor { floor } else { *s - missing * (*s - floor) / above };
    }
    let mut out: Vec<usize> = share.iter().zip(&capacity).map(|(s, &c)| ((s + 1e-9).floor() as usize).min(c)).collect();
    let remainders: Vec<f64> = share.iter().zip(&out).map(|(s, &o)| s - o as f64).collect();
    let order = ranking(&remainders);
    while out.iter().sum::<usize>() < total.min(capacity.iter().sum()) {
        for &l in &order {
            if out[l] < capacity[l] && out.iter().sum::<usize>() < total {
                out[l] += 1;
            }
        }
    }
    out
}

/// The code's integers. `first` = size kept in the first phase, `base` = budget - w, `all_layers` = layers of the model.
pub fn layer_budgets_code(
    scores_of_layers: &[Vec<Vec<f64>>],
    base: usize,
    first: usize,
    all_layers: usize,
) -> Vec<i64> {
    let seen = scores_of_layers.len();
    let heads = scores_of_layers[0].len();
    let available: usize = scores_of_layers.iter().flatten().map(|h| h.len()).sum();
    let wanted = base * heads * seen;
    let mut count: Vec<i64> =
        counts(scores_of_layers, wanted.min(available)).iter().map(|&c| (c / seen) as i64).collect();
    if seen == all_layers {
        // The last update hands what the integer division lost to the last layer.
        count[seen - 1] += (base * heads) as i64 - count.iter().sum::<i64>();
    }
    let sum: i64 = count.iter().sum();
    let sized: Vec<i64> = count.iter().map(|&c| (first as f64 * c as f64 / sum as f64) as i64).collect();
    let target = (base * all_layers) as i64;
    let ratio = sized.iter().sum::<i64>() as f64 / target as f64;
    // Python's floor division of a float: by the remainder, not by the rounded quotient (13 // 1.3 is 9).
    let mut out: Vec<i64> = sized.iter().map(|&s| ((s as f64 - s as f64 % ratio) / ratio).round() as i64).collect();
    let given: i64 = out.iter().sum();
    out[seen - 1] += target - given;
    out
}
