//! Attention of the last queries, for scorers and filters that need it row by row.

use headwise_core::{Error, Result};
use headwise_kernels::matmul::{GgmlDType, Matrix, linear};
use headwise_kernels::{Block, Window, window_rows};

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
    let (dim, values) = (layer.shape.head_dim, layer.heads[head].all_values());
    for (g, of_head) in attention.iter_mut().enumerate() {
        change(of_head, &values, dim, norms, head * layer.shape.group + g)?;
    }
    Ok(attention)
}

/// Attention rows of one query head become changes of its output.
pub(crate) fn change(
    attention: &mut [Vec<f32>],
    values: &[f32],
    dim: usize,
    norms: &OutputNorms,
    query_head: usize,
) -> Result<()> {
    let slots = values.len() / dim;
    let mut outputs = vec![0.0f32; attention.len() * dim];
    for (row, out) in attention.iter().zip(outputs.chunks_exact_mut(dim)) {
        for (&p, value) in row.iter().zip(values.chunks_exact(dim)) {
            out.iter_mut().zip(value).for_each(|(out, v)| *out += p * v);
        }
    }
    // ‖(o − v) W‖² = oᵀGo − 2 (G o)ᵀ v + vᵀGv with G = W Wᵀ.
    let turned = norms.gram(query_head, &outputs)?;
    let own: Vec<f32> = turned.chunks_exact(dim).zip(outputs.chunks_exact(dim)).map(|(a, b)| rows::dot(a, b)).collect();
    let squares: Vec<f32> = norms.of(query_head, values)?.into_iter().map(|norm| norm * norm).collect();
    let bytes: Vec<u8> = turned.iter().flat_map(|x| x.to_ne_bytes()).collect();
    let mut products = vec![0.0; slots * attention.len()];
    linear(&mut products, values, Matrix::new(&bytes, GgmlDType::F32, attention.len(), dim)?, None)?;
    let rows = attention.len();
    for (index, row) in attention.iter_mut().enumerate() {
        for (slot, p) in row.iter_mut().enumerate() {
            let square = own[index] - 2.0 * products[slot * rows + index] + squares[slot];
            *p = *p / (1.0 - *p).max(f32::EPSILON / 2.0) * square.max(0.0).sqrt();
        }
    }
    Ok(())
}
