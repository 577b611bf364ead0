//! Attention of the last queries, for scorers and filters that need it row by row.

use headwise_core::{Error, Result};
use headwise_kernels::output_changes::Outputs;
use headwise_kernels::window_scores::SUMS;
use headwise_kernels::{
    Block, Buffer, HeadView, Strips, Window, output_changes, weighted_sums, window_rows, window_sums,
};
use rayon::prelude::*;
use std::slice::ChunksExact;

use crate::output_norms::OutputNorms;
use crate::{LayerInput, rows};

/// Numbers of a KV head for each of its query heads, row of the window and slot, `[group][rows][slots]`.
pub(crate) struct Rows {
    /// Of a query head.
    pub rows: usize,
    /// Of a row.
    pub slots: usize,
    numbers: Buffer,
}

impl Rows {
    /// One after the other.
    pub fn all(&self) -> ChunksExact<'_, f32> {
        self.numbers.chunks_exact(self.slots.max(1))
    }

    /// Those of each query head.
    pub fn of_query_heads(&self) -> impl Iterator<Item = ChunksExact<'_, f32>> {
        let of_query_head = self.numbers.chunks_exact((self.rows * self.slots).max(1));
        of_query_head.map(|numbers| numbers.chunks_exact(self.slots.max(1)))
    }
}

/// Softmax rows of the window over all slots of a KV head, the window's own columns among them.
pub(crate) fn rows<B: Block>(layer: &LayerInput<B>, who: &str, window: usize, head: usize) -> Result<Rows> {
    rows_at(layer, who, window, head, |_| layer.scale)
}

/// The same with logits multiplied by what `scale` says of the row's position.
pub(crate) fn rows_at<B: Block>(
    layer: &LayerInput<B>,
    who: &str,
    window: usize,
    head: usize,
    scale: impl Fn(u32) -> f32,
) -> Result<Rows> {
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
    Ok(Rows { rows: positions.len(), slots: view.len, numbers })
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

/// How much the layer's output changes for each row of the window when a slot is taken away: see [`output_changes`].
pub(crate) fn changes<B: Block>(
    layer: &LayerInput<B>,
    who: &str,
    window: usize,
    head: usize,
    norms: &OutputNorms,
) -> Result<Rows> {
    let attention = rows(layer, who, window, head)?;
    change(attention, layer.heads[head], norms, head)
}

/// Attention of a KV head becomes changes of its query heads' outputs.
pub(crate) fn change<B: Block>(
    mut attention: Rows,
    view: HeadView<B>,
    norms: &OutputNorms,
    head: usize,
) -> Result<Rows> {
    let (rows, slots, dim) = (attention.rows, attention.slots, view.layout.head_dim);
    if slots == 0 {
        return Ok(attention);
    }
    let group = attention.numbers.len() / (rows * slots);
    let outputs = outputs(&attention, view)?;
    let strips = Strips::values(view);
    let lengths = norms.of_group(head, &strips)?;
    let query_heads = attention.numbers.par_chunks_exact_mut(rows * slots).zip(outputs.par_chunks_exact(rows * dim));
    let query_heads = query_heads.zip(lengths.par_chunks_exact(slots)).zip(head * group..(head + 1) * group);
    let changed = query_heads.map(|(((attention, outputs), lengths), query_head)| {
        let images = norms.gram(query_head, outputs)?;
        let squares = images.chunks_exact(dim).zip(outputs.chunks_exact(dim)).map(|(a, b)| rows::dot(a, b));
        let squares: Vec<f32> = squares.collect();
        output_changes(attention, &strips, Outputs { images: &images, squares: &squares, lengths })
    });
    changed.collect::<Vec<_>>().into_iter().collect::<Result<()>>()?;
    Ok(attention)
}

/// Σ a v for attention over the values of a KV head, `[group][rows][head_dim]`.
pub(crate) fn outputs<B: Block>(attention: &Rows, view: HeadView<B>) -> Result<Vec<f32>> {
    match attention.slots {
        0 => Ok(Vec::new()),
        _ => weighted_sums(&attention.numbers, &view.all_values(), view.layout.head_dim),
    }
}
