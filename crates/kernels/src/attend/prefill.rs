//! Many queries: tiles of keys and values are converted to f32 once and multiplied with panels of queries.
//!
//! A panel holds a few vectors of stacked queries (row, head of the group), transposed, so that every step of the
//! online softmax works on whole vectors of queries and no lane ever depends on another: logits are `[slot][query]`, sums
//! `[dimension][query]`. Key tiles start at multiples of [`KEY_TILE`] slots, whatever the prompt's chunks were; slots that a
//! query does not see add exact zeros. So a row's result does not depend on the rows that it came with.

use super::columns::Kept;
use super::partial::{Sums, inverse};
use super::simd_product::{MAX_PANEL_VECTORS, Strided, panel_product, panel_vectors};
use super::{Columns, Dims, HeadQuery};
use crate::dispatch;
use crate::rows::widen_rows;
use crate::simd_vector::{Vector, VectorOf};
use crate::{CacheLines, Half};
use std::ops::Range;

/// Stacked queries of one task.
pub(super) const QUERY_TILE: usize = 192;

/// Slots that are converted and multiplied at a time. K and V tiles of 64 dimensions fit the second-level cache with room.
pub(super) const KEY_TILE: usize = 128;

dispatch! {
    /// Attention of the rows `rows` of a KV head over all slots that they see, `[rows][group]`. `columns`, `[group][slots]`, take
    /// in the weights that slots get from these rows.
    pub(super) fn prefill_tile(level, query: &HeadQuery<'_>, dims: Dims, rows: Range<usize>, scratch: &mut CacheLines, out: Sums<'_>, columns: Option<Columns<'_>>) = body::<VectorOf<Target>>;
}

/// Queries of one panel and their running softmax.
struct Panel<'a> {
    /// Slots that each query sees, as numbers. `[width]`
    visible: &'a mut [f32],
    /// `[width]`
    max: &'a mut [f32],
    /// `[width]`
    denominator: &'a mut [f32],
    /// Scaled queries, transposed. `[head_dim][width]`
    q: &'a mut [f32],
    /// Numerators, transposed. `[head_dim][width]`
    sums: &'a mut [f32],
}

/// Keys and values of some slots as f32, zeros after the last.
struct KeyTile<'a> {
    start: usize,
    /// Slots, padded.
    slots: usize,
    /// `[slots][head_dim]`
    keys: &'a [f32],
    /// `[slots][head_dim]`
    values: &'a [f32],
    /// `[slots]`
    bias: Option<&'a [f32]>,
}

#[inline(always)]
fn body<V: Vector>(
    query: &HeadQuery<'_>,
    dims: Dims,
    rows: Range<usize>,
    scratch: &mut CacheLines,
    out: Sums<'_>,
    columns: Option<Columns<'_>>,
) {
    let Dims { query_heads, group, head_dim } = dims;
    let HeadQuery { head, view, .. } = *query;
    let width = panel_vectors::<V>() * V::LANES;
    let count = rows.len() * group;
    let panel_count = count.div_ceil(width);
    let visible = |i: usize| view.len - query.rows + rows.start + i / group + 1;

    let panel_len = width * (3 + 2 * head_dim);
    let panels_len = panel_count * panel_len;
    let end = visible(count - 1);
    let tiles = end.div_ceil(KEY_TILE);
    let kept_len = if columns.is_some() { Kept::len(tiles, panel_count, width) } else { 0 };
    let shares_len = if columns.is_some() { (1 + 2 * group) * panel_count * width } else { 0 };
    let scratch = scratch.at_least(panels_len + KEY_TILE * (2 * head_dim + 1 + width) + kept_len + shares_len);
    let (panels, scratch) = scratch.split_at_mut(panels_len);
    panels.fill(0.0);
    for (p, data) in panels.chunks_exact_mut(panel_len).enumerate() {
        let panel = Panel::split(data, width, head_dim);
        panel.max.fill(f32::NEG_INFINITY);
        for lane in 0..width {
            // Lanes after the last query repeat its reach and multiply zeros.
            let i = p * width + lane;
            panel.visible[lane] = visible(i.min(count - 1)) as f32;
            if i < count {
                let at = ((rows.start + i / group) * query_heads + head * group + i % group) * head_dim;
                for (d, x) in query.q[at..][..head_dim].iter().enumerate() {
                    panel.q[d * width + lane] = x * query.scale;
                }
            }
        }
    }

    let (keys, rest) = scratch.split_at_mut(KEY_TILE * head_dim);
    let (values, rest) = rest.split_at_mut(KEY_TILE * head_dim);
    let (logits, rest) = rest.split_at_mut(KEY_TILE * width);
    let (bias, rest) = rest.split_at_mut(KEY_TILE);
    let (kept, shares) = rest.split_at_mut(kept_len);
    let mut kept = columns.is_some().then(|| Kept::new(kept, tiles, panel_count, width));
    let last = |p: usize| visible((p * width + width).min(count) - 1);
    for (t, start) in (0..end).step_by(KEY_TILE).enumerate() {
        let filled = (end - start).min(KEY_TILE);
        let slots = filled.next_multiple_of(8);
        widen_rows::<V>(view, start, filled, Half::Keys, &mut keys[..slots * head_dim]);
        widen_rows::<V>(view, start, filled, Half::Values, &mut values[..slots * head_dim]);
        let bias = query.bias.map(|all| {
            bias[..filled].copy_from_slice(&all[start..start + filled]);
            bias[filled..].fill(0.0);
            &*bias
        });
        let tile = KeyTile { start, slots, keys, values, bias };
        for (p, data) in panels.chunks_exact_mut(panel_len).enumerate() {
            if last(p) > start {
                let all_see_all = visible(p * width) >= start + slots;
                let mut panel = Panel::split(data, width, head_dim);
                let logits = kept.as_mut().map_or(&mut logits[..], |kept| kept.place(t, p));
                attend_tile::<V>(&mut panel, &tile, logits, all_see_all);
                if let Some(kept) = &mut kept {
                    kept.set_maxima(t, p, panel.max);
                }
            }
        }
    }

    for (p, data) in panels.chunks_exact_mut(panel_len).enumerate() {
        let panel = Panel::split(data, width, head_dim);
        for (lane, i) in (p * width..count.min(p * width + width)).enumerate() {
            out.max[i] = panel.max[lane];
            out.denominator[i] = panel.denominator[lane];
            for (d, to) in out.numerator[i * head_dim..][..head_dim].iter_mut().enumerate() {
                *to = panel.sums[d * width + lane];
            }
        }
    }

    let (Some(columns), Some(kept)) = (columns, kept) else { return };
    let lanes = panel_count * width;
    let (maxima, rest) = shares.split_at_mut(lanes);
    let (shares, factors) = rest[..2 * group * lanes].split_at_mut(group * lanes);
    maxima.fill(0.0);
    shares.fill(0.0);
    maxima[..count].copy_from_slice(&out.max[..count]);
    for i in 0..count {
        let factor = columns.factors.map_or(1.0, |factors| factors[rows.start + i / group]);
        shares[i % group * lanes + i] = inverse(out.denominator[i]) * factor;
    }
    for (t, start) in (0..end).step_by(KEY_TILE).enumerate() {
        let first = (0..panel_count).find(|&p| last(p) > start).unwrap_or(panel_count);
        let slots = (end - start).min(KEY_TILE);
        let out = &mut columns.out[start..];
        kept.add::<V>(t, first..panel_count, slots, maxima, shares, factors, columns.reduce, out, view.len);
    }
}

/// One step of the online softmax for one panel.
#[inline(always)]
fn attend_tile<V: Vector>(panel: &mut Panel<'_>, tile: &KeyTile<'_>, logits: &mut [f32], all_see_all: bool) {
    let width = panel_vectors::<V>() * V::LANES;
    let head_dim = panel.q.len() / width;
    let logits = &mut logits[..tile.slots * width];
    let keys = Strided { data: tile.keys, row: head_dim, depth: 1 };
    panel_product::<V>(keys, tile.slots, panel.q, head_dim, logits, None);

    let mut correction = [0.0; MAX_PANEL_VECTORS * 16];
    for column in (0..width).step_by(V::LANES) {
        let old_max = V::load(&panel.max[column..]);
        let mut max = old_max;
        if all_see_all && tile.bias.is_none() {
            for row in logits.chunks_exact(width) {
                max = V::load(&row[column..]).max(max);
            }
        } else {
            let visible = V::load(&panel.visible[column..]);
            for (slot, row) in logits.chunks_exact_mut(width).enumerate() {
                let bias = V::splat(tile.bias.map_or(0.0, |bias| bias[slot]));
                let slot = V::splat((tile.start + slot) as f32);
                let x = V::load(&row[column..]).add(bias);
                let x = V::select_ge(slot, visible, V::splat(f32::NEG_INFINITY), x);
                x.store(&mut row[column..]);
                max = x.max(max);
            }
        }
        // With a finite base -∞ - base stays -∞ where a query has seen nothing yet.
        let base = max.max(V::splat(f32::MIN));
        let factor = old_max.sub(base).exp();
        let mut sum = V::splat(0.0);
        for row in logits.chunks_exact_mut(width) {
            let p = V::load(&row[column..]).sub(base).exp();
            p.store(&mut row[column..]);
            sum = sum.add(p);
        }
        V::load(&panel.denominator[column..]).mul_add(factor, sum).store(&mut panel.denominator[column..]);
        max.store(&mut panel.max[column..]);
        factor.store(&mut correction[column..]);
    }
    let values = Strided { data: tile.values, row: 1, depth: head_dim };
    panel_product::<V>(values, head_dim, logits, tile.slots, panel.sums, Some(&correction));
}

impl<'a> Panel<'a> {
    fn split(data: &'a mut [f32], width: usize, head_dim: usize) -> Self {
        let (visible, rest) = data.split_at_mut(width);
        let (max, rest) = rest.split_at_mut(width);
        let (denominator, rest) = rest.split_at_mut(width);
        let (q, sums) = rest.split_at_mut(width * head_dim);
        Self { visible, max, denominator, q, sums }
    }
}
