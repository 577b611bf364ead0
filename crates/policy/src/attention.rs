//! Attention of the last queries, for scorers and filters that need it row by row.

use headwise_core::{Error, Result};
use headwise_kernels::matmul::{GgmlDType, Matrix, linear};
use headwise_kernels::window_scores::SUMS;
use headwise_kernels::{Block, HeadView, Window, window_rows, window_sums};

use crate::output_norms::OutputNorms;
use crate::{LayerInput, rows};

/// Softmax rows of the window over all slots of a KV head, `[group][rows][slots]`, the window's own columns among them.
pub(crate) fn rows<B: Block>(
    layer: &LayerInput<B>,
    who: &str,
    window: usize,
    head: usize,
) -> Result<Vec<Vec<Vec<f32>>>> {
    rows_at(layer, who, window, head, |_| layer.scale)
}

/// The same with logits multiplied by what `scale` says of the row's position.
pub(crate) fn rows_at<B: Block>(
    layer: &LayerInput<B>,
    who: &str,
    window: usize,
    head: usize,
    scale: impl Fn(u32) -> f32,
) -> Result<Vec<Vec<Vec<f32>>>> {
    let (queries, positions) = layer.window(who, window)?;
    if positions.is_empty() {
        return Err(Error::ObservationMissing { scorer: who.into(), what: "queries".into(), need: 1, have: 0 });
    }
    let query_heads = layer.shape.query_heads();
    let width = query_heads * layer.shape.head_dim;
    // A row's own scale goes into its queries.
    let mut scaled = queries.to_vec();
    for (row, &position) in scaled.chunks_exact_mut(width).zip(positions) {
        let factor = scale(position) / layer.scale;
        row.iter_mut().for_each(|x| *x *= factor);
    }
    let window = Window { queries: &scaled, positions, query_heads, scale: layer.scale };
    let view = layer.heads[head];
    let numbers = window_rows(&window, head, layer.heads.len(), view, layer.positions[head])?;
    let len = view.len.max(1);
    let of_group = |rows: &[f32]| rows.chunks_exact(len).map(<[f32]>::to_vec).collect();
    Ok(numbers.chunks_exact(len * positions.len()).map(of_group).collect())
}

/// What the rows of the window say of a slot, over one query head.
pub(crate) struct Moments {
    pub mean: f64,
    /// With the divisor rows − 1.
    pub variance: f64,
    /// Σ −p ln p.
    pub entropy: f64,
}

/// Moments of the slots before the window, `[kv head][group][slot]`, without holding the rows.
pub(crate) fn moments<B: Block>(layer: &LayerInput<B>, who: &str, window: usize) -> Result<Vec<Vec<Vec<Moments>>>> {
    let start = layer.seen.saturating_sub(window);
    let (queries, positions) = layer.window(who, window)?;
    let window = Window { queries, positions, query_heads: layer.shape.query_heads(), scale: layer.scale };
    let count = positions.len() as f64;
    let of_slot = |sums: [f32; SUMS]| {
        let [sum, squares, entropy] = sums.map(f64::from);
        let mean = sum / count;
        // Rounded to float32, a sum of squares may be less than it must be.
        let variance = (squares - count * mean * mean).max(0.0) / (count - 1.0).max(1.0);
        Moments { mean, variance, entropy }
    };
    let of_head = |(head, &view): (usize, &HeadView<B>)| {
        let sums = window_sums(&window, head, layer.heads.len(), view, layer.positions[head])?;
        let open = layer.slots_before(head, start);
        let of_query_head = |sums: &[f32]| {
            let part = |index: usize| &sums[index * view.len..(index + 1) * view.len];
            let slots = part(0).iter().zip(part(1)).zip(part(2)).take(open);
            slots.map(|((&sum, &squares), &entropy)| of_slot([sum, squares, entropy])).collect()
        };
        Ok(sums.chunks_exact((SUMS * view.len).max(1)).map(of_query_head).collect())
    };
    layer.heads.iter().enumerate().map(of_head).collect()
}

/// How much the layer's output changes for each row of the window when a slot is taken away and the softmax renormalised, `[group][rows][slots]`:
/// a / (1 − a) · ‖(o − v) W_O‖₂, with o the head's output for that row (the closed form of CAOTE, arXiv 2504.14051, and ReST-KV, arXiv 2605.08840).
///
/// A slot that holds all attention would change the output without bound; 1 − a is taken as 2⁻²⁴ at least.
pub(crate) fn changes<B: Block>(
    layer: &LayerInput<B>,
    who: &str,
    window: usize,
    head: usize,
    norms: &OutputNorms,
) -> Result<Vec<Vec<Vec<f32>>>> {
    let mut attention = rows(layer, who, window, head)?;
    change(&mut attention, &layer.heads[head].all_values(), layer.shape.head_dim, norms, head * layer.shape.group)?;
    Ok(attention)
}

/// Attention rows of the query heads of a KV head, from query head `first` on, become changes of their outputs.
pub(crate) fn change(
    attention: &mut [Vec<Vec<f32>>],
    values: &[f32],
    dim: usize,
    norms: &OutputNorms,
    first: usize,
) -> Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    let rows = attention.first().map_or(0, Vec::len);
    let outputs = outputs(attention, values, dim)?;
    let values_as_weights = rows::bytes(values);
    let slots = values.len() / dim;
    let each = outputs.chunks_exact(rows * dim);
    for (query_head, (attention, outputs)) in (first..).zip(attention.iter_mut().zip(each)) {
        // ‖(o − v) W‖² = oᵀGo − 2 (G o)ᵀ v + vᵀGv with G = W Wᵀ.
        let turned = norms.gram(query_head, outputs)?;
        let squares: Vec<f32> = norms.of(query_head, values)?.into_iter().map(|norm| norm * norm).collect();
        let mut products = vec![0.0; rows * slots];
        linear(&mut products, &turned, Matrix::new(&values_as_weights, GgmlDType::F32, slots, dim)?, None)?;
        let own = turned.chunks_exact(dim).zip(outputs.chunks_exact(dim)).map(|(a, b)| rows::dot(a, b));
        for ((row, products), own) in attention.iter_mut().zip(products.chunks_exact(slots)).zip(own) {
            for ((p, product), square) in row.iter_mut().zip(products).zip(&squares) {
                let square = own - 2.0 * product + square;
                *p = *p / (1.0 - *p).max(f32::EPSILON / 2.0) * square.max(0.0).sqrt();
            }
        }
    }
    Ok(())
}

/// Σ a v for attention rows over a KV head's `values` (`[slots][dim]`), `[group][rows][dim]`.
pub(crate) fn outputs(attention: &[Vec<Vec<f32>>], values: &[f32], dim: usize) -> Result<Vec<f32>> {
    let mut outputs = vec![0.0; attention.iter().map(Vec::len).sum::<usize>() * dim];
    if values.is_empty() {
        return Ok(outputs);
    }
    let slots = values.len() / dim;
    let mut turned = vec![0.0; values.len()];
    for (slot, value) in values.chunks_exact(dim).enumerate() {
        value.iter().enumerate().for_each(|(d, &x)| turned[d * slots + slot] = x);
    }
    let attention: Vec<&[f32]> = attention.iter().flatten().map(Vec::as_slice).collect();
    linear(&mut outputs, &attention.concat(), Matrix::new(&rows::bytes(&turned), GgmlDType::F32, dim, slots)?, None)?;
    Ok(outputs)
}
