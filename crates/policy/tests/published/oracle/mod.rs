//! Formulas of published methods in plain f64, written from the papers and not from the library: what its scorers are compared with.
//!
//! Conventions, where a file says nothing else:
//! * a score covers the slots `0..len - w`; the last `w` tokens (the window) are protected and have no score;
//! * pooling sees only the scored slots, pads with zeros and divides by the kernel size (PyTorch's `avg_pool1d` default);
//! * kernels are odd;
//! * query head `h` reads KV head `h / group`, and a group is reduced before anything is selected.
#![allow(dead_code)]

pub mod aha_kv;
pub mod cake;
pub mod cap_kv;
pub mod citrus;
pub mod dynamic_kv;
pub mod fast_gen;
pub mod finch;
pub mod gvote;
pub mod kv_compose;
pub mod kv_compress;
pub mod kv_crush;
pub mod kvzip;
pub mod la_prox;
pub mod lava;
pub mod lookahead;
pub mod mix_kv;
pub mod nacl;
pub mod refree_kv;
pub mod rest_kv;
pub mod sage_kv;

/// One layer right after the prefill, as plain numbers, row-major. Every KV head holds all `len` tokens.
pub struct Layer {
    pub kv_heads: usize,
    pub group: usize,
    pub dim: usize,
    pub len: usize,
    /// Width of the residual stream (rows of W_O).
    pub hidden: usize,
    /// Post-RoPE queries of the last `rows` tokens, [rows][kv_heads*group][dim]; query head h belongs to KV head h / group.
    pub queries: Vec<f64>,
    pub rows: usize,
    /// Post-RoPE, [kv_heads][len][dim].
    pub keys: Vec<f64>,
    /// [kv_heads][len][dim].
    pub values: Vec<f64>,
    /// W_O, [hidden][kv_heads*group*dim]: output = W_O · concat(heads).
    pub output: Vec<f64>,
    /// 1/sqrt(dim).
    pub scale: f64,
}

impl Layer {
    /// Number of query heads.
    pub fn heads(&self) -> usize {
        self.kv_heads * self.group
    }

    /// The query of head `head` at row `row` of the recorded rows.
    pub fn query(&self, row: usize, head: usize) -> &[f64] {
        let at = (row * self.heads() + head) * self.dim;
        &self.queries[at..at + self.dim]
    }

    pub fn key(&self, kv_head: usize, token: usize) -> &[f64] {
        let at = (kv_head * self.len + token) * self.dim;
        &self.keys[at..at + self.dim]
    }

    pub fn value(&self, kv_head: usize, token: usize) -> &[f64] {
        let at = (kv_head * self.len + token) * self.dim;
        &self.values[at..at + self.dim]
    }

    /// `W_O^h · x`: what the vector `x`, put in the place of query head `head`'s output, adds to the residual stream.
    pub fn project(&self, head: usize, x: &[f64]) -> Vec<f64> {
        let width = self.heads() * self.dim;
        (0..self.hidden).map(|row| dot(&self.output[row * width + head * self.dim..][..self.dim], x)).collect()
    }

    /// Position of the token whose query is row `row`.
    pub fn position(&self, row: usize) -> usize {
        self.len - self.rows + row
    }
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

pub fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

pub fn mean(a: &[f64]) -> f64 {
    a.iter().sum::<f64>() / a.len() as f64
}

/// Variance with the divisor n - 1 (PyTorch's `var` default) or n.
pub fn variance(a: &[f64], unbiased: bool) -> f64 {
    let m = mean(a);
    let squares: f64 = a.iter().map(|x| (x - m) * (x - m)).sum();
    squares / (a.len() - usize::from(unbiased)) as f64
}

pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|x| (x - top).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|x| x / sum).collect()
}

/// Causal softmax of the last `w` queries over all `len` keys: `[head][row][len]`, zero where a row cannot look.
pub fn window_attention(layer: &Layer, w: usize) -> Vec<Vec<Vec<f64>>> {
    window_attention_with(layer, w, |_| layer.scale)
}

/// The same with the logits' scale chosen per row from the number of tokens the row sees.
pub fn window_attention_with(layer: &Layer, w: usize, scale: impl Fn(usize) -> f64) -> Vec<Vec<Vec<f64>>> {
    assert!(w <= layer.rows);
    (0..layer.heads())
        .map(|head| {
            (layer.rows - w..layer.rows)
                .map(|row| {
                    let seen = layer.position(row) + 1;
                    let logits: Vec<f64> = (0..seen)
                        .map(|token| scale(seen) * dot(layer.query(row, head), layer.key(head / layer.group, token)))
                        .collect();
                    let mut weights = softmax(&logits);
                    weights.resize(layer.len, 0.0);
                    weights
                })
                .collect()
        })
        .collect()
}

/// Column `token` of an attention block `[row][len]`.
pub fn column(rows: &[Vec<f64>], token: usize) -> Vec<f64> {
    rows.iter().map(|row| row[token]).collect()
}

/// Average over a centred window, zeros outside, divided by `kernel` everywhere.
pub fn avg_pool(xs: &[f64], kernel: usize) -> Vec<f64> {
    pool(xs, kernel, |part| part.iter().sum::<f64>() / kernel as f64)
}

/// Maximum over a centred window; nothing outside.
pub fn max_pool(xs: &[f64], kernel: usize) -> Vec<f64> {
    pool(xs, kernel, |part| part.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

fn pool(xs: &[f64], kernel: usize, reduce: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    assert_eq!(kernel % 2, 1);
    let half = kernel / 2;
    (0..xs.len()).map(|i| reduce(&xs[i.saturating_sub(half)..(i + half + 1).min(xs.len())])).collect()
}

fn group_by(per_head: &[Vec<f64>], group: usize, reduce: impl Fn(&[f64]) -> f64) -> Vec<Vec<f64>> {
    per_head.chunks(group).map(|heads| (0..heads[0].len()).map(|i| reduce(&column(heads, i))).collect()).collect()
}

/// `[heads][n]` to `[kv_heads][n]` by the group's mean.
pub fn group_mean(per_head: &[Vec<f64>], group: usize) -> Vec<Vec<f64>> {
    group_by(per_head, group, mean)
}

/// The same by the group's sum.
pub fn group_sum(per_head: &[Vec<f64>], group: usize) -> Vec<Vec<f64>> {
    group_by(per_head, group, |xs| xs.iter().sum())
}

/// The same by the group's maximum.
pub fn group_max(per_head: &[Vec<f64>], group: usize) -> Vec<Vec<f64>> {
    group_by(per_head, group, |xs| xs.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

/// ‖W_O^h v_i‖₂ of the first `end` tokens, for query head `head`.
pub fn output_norms(layer: &Layer, head: usize, end: usize) -> Vec<f64> {
    (0..end).map(|token| norm(&layer.project(head, layer.value(head / layer.group, token)))).collect()
}

/// All indices, best score first, ties to the lower index.
pub fn ranking(xs: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..xs.len()).collect();
    order.sort_by(|&a, &b| xs[b].total_cmp(&xs[a]).then(a.cmp(&b)));
    order
}

/// The `k` best indices in ascending order, ties to the lower index.
pub fn top_k(xs: &[f64], k: usize) -> Vec<usize> {
    let mut best = ranking(xs);
    best.truncate(k);
    best.sort_unstable();
    best
}

/// A reproducible layer of numbers in about [-1.7, 1.7], for trying a property out. Not a random generator to rely on.
pub fn sample(kv_heads: usize, group: usize, dim: usize, len: usize, rows: usize, hidden: usize, seed: u64) -> Layer {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = |n: usize| -> Vec<f64> {
        (0..n)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                ((state >> 11) as f64 / (1u64 << 53) as f64 - 0.5) * 12f64.sqrt()
            })
            .collect()
    };
    let heads = kv_heads * group;
    Layer {
        kv_heads,
        group,
        dim,
        len,
        hidden,
        queries: draw(rows * heads * dim),
        rows,
        keys: draw(kv_heads * len * dim),
        values: draw(kv_heads * len * dim),
        output: draw(hidden * heads * dim),
        scale: 1.0 / (dim as f64).sqrt(),
    }
}
