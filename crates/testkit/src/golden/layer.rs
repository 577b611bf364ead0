//! The inputs of a case as a layer of a cache: blocks of float32 slots, views on them, positions.

use headwise_core::{Codec, KvShape};
use headwise_kernels::attend::{Job, Query, attend_batch};
use headwise_kernels::{BlockLayout, HeadView};
use headwise_policy::LayerInput;

use super::case::{Case, Outcome, fail};

const SLOTS: usize = 32;

/// One layer that owns what [`LayerInput`] borrows.
pub struct Layer {
    layout: BlockLayout,
    /// `[kv head][block]`
    blocks: Vec<Vec<Vec<u8>>>,
    positions: Vec<u32>,
    /// `[rows][query heads][head_dim]`
    queries: Vec<f32>,
    query_positions: Vec<u32>,
    /// The attention that every slot gets from all queries, where the case has them.
    running_sums: Option<Vec<f32>>,
    shape: KvShape,
    layer: usize,
}

impl Layer {
    /// From the tensors `k` and `v` `[Hkv, T, D]`, `q_window` `[Hq, w, D]` and `q` `[Hq, T, D]`, each if there is one; sizes from the parameters if not.
    /// With `gqa_support: false` every query head has a cache of its own, a copy of its KV head's.
    pub fn of(case: &Case) -> Outcome<Self> {
        let (query_heads, kv_heads) = (case.count("Hq")?, case.count("Hkv")?);
        let (seen, head_dim) = (case.count("T")?, case.count("D")?);
        if kv_heads == 0
            || query_heads == 0
            || head_dim == 0
            || !query_heads.is_multiple_of(kv_heads)
            || kv_heads * seen * head_dim > 1 << 26
        {
            return fail(format!("Hq {query_heads}, Hkv {kv_heads}, T {seen}, D {head_dim} are no shape of a cache"));
        }
        let stored = |name| match case.has(name) {
            true => expect(case.floats(name)?, &[kv_heads, seen, head_dim], name).map(<[f32]>::to_vec),
            false => Ok(vec![0.0; kv_heads * seen * head_dim]),
        };
        let (keys, values) = (stored("k")?, stored("v")?);
        let (queries, rows) = match case.has("q_window") {
            true => {
                let (shape, data) = case.floats("q_window")?;
                let rows = shape.get(1).copied().unwrap_or(0);
                (expect((shape, data), &[query_heads, rows, head_dim], "q_window")?, rows)
            }
            false => (&[][..], 0),
        };
        if rows > seen {
            return fail(format!("{rows} window rows for {seen} tokens"));
        }
        let grouped = case.optional("gqa_support", Case::flag)?.unwrap_or(true);
        let copies = if grouped { 1 } else { query_heads / kv_heads };
        let of_head = |numbers: &[f32], head| numbers[head / copies * seen * head_dim..][..seen * head_dim].to_vec();
        let heads = (0..kv_heads * copies).map(|head| (of_head(&keys, head), of_head(&values, head)));
        let layout = BlockLayout { codec: Codec::F32, head_dim, slots: SLOTS };
        let layers = case.optional("num_layers", Case::count)?.unwrap_or(1);
        let blocks: Vec<_> = heads.map(|(keys, values)| blocks_of(&keys, &values, layout)).collect();
        let running_sums = match case.has("q") {
            true => {
                let queries = expect(case.floats("q")?, &[query_heads, seen, head_dim], "q")?;
                Some(sums(&rows_first(queries, query_heads, seen, head_dim), layout, &blocks, seen)?)
            }
            false => None,
        };
        Ok(Self {
            layout,
            blocks,
            positions: (0..seen as u32).collect(),
            queries: rows_first(queries, query_heads, rows, head_dim),
            query_positions: ((seen - rows) as u32..seen as u32).collect(),
            running_sums,
            shape: KvShape { layers, kv_heads: kv_heads * copies, group: query_heads / kv_heads / copies, head_dim },
            layer: case.optional("layer_idx", Case::count)?.unwrap_or(0),
        })
    }

    /// Runs `f` on the layer as policies see it.
    pub fn with<R>(&self, f: impl FnOnce(&LayerInput<Vec<u8>>) -> R) -> R {
        let view = |blocks| HeadView { layout: self.layout, blocks, len: self.positions.len() };
        let heads: Vec<_> = self.blocks.iter().map(|blocks| view(&blocks[..])).collect();
        let positions = vec![&self.positions[..]; heads.len()];
        f(&LayerInput {
            layer: self.layer,
            heads: &heads,
            positions: &positions,
            queries: &self.queries,
            query_positions: &self.query_positions,
            running_sums: self.running_sums.as_deref(),
            shape: self.shape,
            seen: self.positions.len(),
            scale: 1.0 / (self.shape.head_dim as f32).sqrt(),
        })
    }
}

/// The attention that all queries (`[rows][query heads][head_dim]`) give to each slot.
fn sums(q: &[f32], layout: BlockLayout, blocks: &[Vec<Vec<u8>>], rows: usize) -> Outcome<Vec<f32>> {
    let heads: Vec<_> = blocks.iter().map(|blocks| HeadView { layout, blocks: &blocks[..], len: rows }).collect();
    let scale = 1.0 / (layout.head_dim as f32).sqrt();
    let (mut out, mut sums) = (vec![0.0; q.len()], vec![0.0; q.len() / layout.head_dim]);
    let query = Query { q, rows, heads: &heads, bias: None, scale };
    attend_batch(&mut [Job { query, out: &mut out, sums: Some(&mut sums) }])?;
    Ok(sums)
}

/// The numbers if the tensor has this shape.
fn expect<'a>((shape, data): (&[usize], &'a [f32]), expected: &[usize], name: &str) -> Outcome<&'a [f32]> {
    if shape != expected || data.len() != expected.iter().product::<usize>() {
        return fail(format!("tensor {name} has shape {shape:?}, expected {expected:?}"));
    }
    Ok(data)
}

/// Key and value rows, `[slots][head_dim]` each, in blocks of float32.
fn blocks_of(keys: &[f32], values: &[f32], layout: BlockLayout) -> Vec<Vec<u8>> {
    let numbers = layout.slots * layout.head_dim;
    let block = |(keys, values): (&[f32], &[f32])| {
        let mut bytes = vec![0; layout.bytes()];
        let (first, second) = bytes.split_at_mut(layout.half_bytes());
        for (half, numbers) in [(first, keys), (second, values)] {
            for (out, number) in half.chunks_exact_mut(4).zip(numbers) {
                out.copy_from_slice(&number.to_ne_bytes());
            }
        }
        bytes
    };
    keys.chunks(numbers).zip(values.chunks(numbers)).map(block).collect()
}

/// `[heads][rows][dim]` as `[rows][heads][dim]`.
fn rows_first(data: &[f32], heads: usize, rows: usize, dim: usize) -> Vec<f32> {
    let at = |row: usize, head: usize| &data[(head * rows + row) * dim..][..dim];
    (0..rows).flat_map(|row| (0..heads).flat_map(move |head| at(row, head).iter().copied())).collect()
}
