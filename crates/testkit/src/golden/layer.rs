//! The inputs of a case as a layer of a cache: blocks of float32 slots, views on them, positions.

use headwise_core::{Codec, KvShape, Rotation};
use headwise_kernels::attend::{ColumnReduce, Columns, Job, Query, attend_batch};
use headwise_kernels::matmul::{GgmlDType, Matrix};
use headwise_kernels::{BlockLayout, HeadView};
use headwise_model::config::{RopeConfig, RopePairing, RopeScaling};
use headwise_model::rope::Rope;
use headwise_policy::gather::{ChunkAttention, ChunkGrid, Gather, QueryMoments};
use headwise_policy::{Gathered, LayerInput, ModelView, Needs};

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
    moments: Option<QueryMoments>,
    /// All queries and keys, `[rows][heads][head_dim]`, where the case has them.
    rows: Option<(Vec<f32>, Vec<f32>)>,
    /// W_O in bytes and its rows.
    output: Option<(Vec<u8>, usize)>,
    rope: Rope,
    shape: KvShape,
    layer: usize,
}

/// No rotation: of cases that give keys as they were before theirs.
#[derive(Debug)]
struct Still;

impl Rotation for Still {
    fn push_angles(&self, _: u32, _: &mut Vec<f32>, _: &mut Vec<f32>) {}
    fn rotate(&self, _: &mut [f32], _: &[f32], _: &[f32]) {}
}

impl Layer {
    /// The layers of a case: `L` of them, if its tensors have a leading axis of that many, or one.
    pub fn all(case: &Case) -> Outcome<Vec<Self>> {
        match case.optional("L", Case::count)? {
            Some(layers) => (0..layers).map(|layer| Self::nth(case, layer, Some(layers))).collect(),
            None => Ok(vec![Self::nth(case, 0, None)?]),
        }
    }

    /// From the tensors `k` (or `k_pre`, not rotated) and `v` `[Hkv, T, D]`, `q_window` `[Hq, w, D]`, `q` and `q_pre` `[Hq, T, D]`, `w_o`
    /// `[hidden, Hq · D]`, each if there is one; sizes from the parameters if not.
    /// With `gqa_support: false` every query head has a cache of its own, a copy of its KV head's.
    fn nth(case: &Case, index: usize, of: Option<usize>) -> Outcome<Self> {
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
        let tensor = |name: &str| -> Outcome<(&[usize], &[f32])> {
            let (shape, data) = case.floats(name)?;
            let Some(layers) = of else { return Ok((shape, data)) };
            if shape.first() != Some(&layers) || !data.len().is_multiple_of(layers.max(1)) {
                return fail(format!("tensor {name} has shape {shape:?}, expected {layers} layers"));
            }
            let size = data.len() / layers;
            Ok((&shape[1..], &data[index * size..][..size]))
        };
        let stored = |name| match case.has(name) {
            true => expect(tensor(name)?, &[kv_heads, seen, head_dim], name).map(<[f32]>::to_vec),
            false => Ok(vec![0.0; kv_heads * seen * head_dim]),
        };
        let (keys, values) = (stored(if case.has("k") { "k" } else { "k_pre" })?, stored("v")?);
        let (queries, rows) = match case.has("q_window") {
            true => {
                let (shape, data) = tensor("q_window")?;
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
        let layers = case.optional("num_layers", Case::count)?.or(of).unwrap_or(1);
        let blocks: Vec<_> = heads.map(|(keys, values)| blocks_of(&keys, &values, layout)).collect();
        let shape = KvShape { layers, kv_heads: kv_heads * copies, group: query_heads / kv_heads / copies, head_dim };
        let by_row = |name: &str| -> Outcome<Option<Vec<f32>>> {
            if !case.has(name) {
                return Ok(None);
            }
            let data = expect(tensor(name)?, &[query_heads, seen, head_dim], name)?;
            Ok(Some(rows_first(data, query_heads, seen, head_dim)))
        };
        let all = by_row("q")?;
        let running_sums = all.as_deref().map(|q| sums(q, layout, &blocks, seen)).transpose()?;
        let moments = by_row("q_pre")?.map(|q| {
            let mut moments = QueryMoments::new(shape);
            let angles = vec![0.0; seen * head_dim / 2];
            moments.take(&QueryMoments::unturned(&q, &Still, &angles, &angles, shape));
            moments
        });
        let output = match case.has("w_o") {
            true => {
                let (shape, data) = tensor("w_o")?;
                let hidden = shape.first().copied().unwrap_or(0);
                let data = expect((shape, data), &[hidden, query_heads * head_dim], "w_o")?;
                Some((data.iter().flat_map(|x| x.to_ne_bytes()).collect(), hidden))
            }
            false => None,
        };
        let theta = case.optional("rope_theta", Case::number)?.unwrap_or(10_000.0);
        let config = RopeConfig { theta, scaling: RopeScaling::None, pairing: RopePairing::Halves };
        Ok(Self {
            layout,
            blocks,
            positions: (0..seen as u32).collect(),
            queries: rows_first(queries, query_heads, rows, head_dim),
            query_positions: ((seen - rows) as u32..seen as u32).collect(),
            running_sums,
            moments,
            rows: all.map(|q| (q, rows_first(&keys, kv_heads, seen, head_dim))),
            output,
            rope: Rope::new(&config, head_dim, None)?,
            shape,
            layer: case.optional("layer_idx", Case::count)?.unwrap_or(index),
        })
    }

    /// Runs `f` on the layer as policies see it. `still`: the keys are those before their rotation.
    pub fn with<R>(&self, needs: &Needs, still: bool, f: impl FnOnce(&LayerInput<Vec<u8>>) -> R) -> R {
        let slots: Vec<Vec<u32>> = self.blocks.iter().map(|_| self.positions.clone()).collect();
        self.with_slots(needs, still, &slots, self.positions.len(), f)
    }

    /// As [`with`](Self::with), after `seen` tokens, of which each head holds `slots`.
    pub fn with_slots<R>(
        &self,
        needs: &Needs,
        still: bool,
        slots: &[Vec<u32>],
        seen: usize,
        f: impl FnOnce(&LayerInput<Vec<u8>>) -> R,
    ) -> R {
        let gathered: Vec<ChunkAttention> = needs.chunk_attention.iter().map(|&grid| self.chunks(grid)).collect();
        let gathered: Vec<&ChunkAttention> = gathered.iter().collect();
        let blocks: Vec<Vec<Vec<u8>>> =
            self.blocks.iter().zip(slots).map(|(blocks, slots)| self.some(blocks, slots)).collect();
        let view = |(blocks, slots): (_, &Vec<u32>)| HeadView { layout: self.layout, blocks, len: slots.len() };
        let heads: Vec<_> = blocks.iter().map(|blocks| &blocks[..]).zip(slots).map(view).collect();
        let positions: Vec<&[u32]> = slots.iter().map(|slots| &slots[..]).collect();
        let output = self.output.as_ref().and_then(|(bytes, rows)| {
            Matrix::new(bytes, GgmlDType::F32, *rows, self.shape.query_heads() * self.shape.head_dim).ok()
        });
        let rotation: &dyn Rotation = if still { &Still } else { &self.rope };
        f(&LayerInput {
            layer: self.layer,
            heads: &heads,
            positions: &positions,
            renumbered: None,
            queries: &self.queries,
            query_positions: &self.query_positions,
            gathered: Gathered {
                running_sums: self.running_sums.as_deref(),
                query_moments: self.moments.as_ref(),
                chunk_attention: &gathered,
                echo: &[],
                token_classes: None,
                probe: None,
            },
            model: ModelView { output, rotation: Some(rotation) },
            shape: self.shape,
            seen,
            scale: 1.0 / (self.shape.head_dim as f32).sqrt(),
            output_lengths: None,
            budget: 0,
        })
    }

    /// Keys of the kept slots of every head, turned to the positions 0, 1, …, `[heads][kept][head_dim]`.
    pub fn renumbered(&self, kept: &[&[u32]]) -> Vec<f32> {
        let dim = self.shape.head_dim;
        let mut out = Vec::new();
        for (blocks, slots) in self.blocks.iter().zip(kept) {
            let view = HeadView { layout: self.layout, blocks: &blocks[..], len: self.positions.len() };
            for (position, &slot) in slots.iter().enumerate() {
                let mut key: Vec<f32> = (0..dim).map(|d| view.key(slot as usize, d)).collect();
                self.rope.renumber(&mut key, slot, position as u32);
                out.extend(key);
            }
        }
        out
    }

    fn chunks(&self, grid: ChunkGrid) -> ChunkAttention {
        let mut gathered = ChunkAttention::new(self.shape, grid);
        if let Some((queries, keys)) = &self.rows {
            gathered.take(&(queries.to_vec(), keys.to_vec()));
        }
        gathered
    }

    /// Blocks of some slots.
    fn some(&self, blocks: &[Vec<u8>], slots: &[u32]) -> Vec<Vec<u8>> {
        let view = HeadView { layout: self.layout, blocks, len: self.positions.len() };
        let places = || slots.iter().flat_map(|&slot| (0..self.shape.head_dim).map(move |d| (slot as usize, d)));
        let keys: Vec<f32> = places().map(|(slot, d)| view.key(slot, d)).collect();
        let values: Vec<f32> = places().map(|(slot, d)| view.value(slot, d)).collect();
        blocks_of(&keys, &values, self.layout)
    }
}

/// The attention that all queries (`[rows][query heads][head_dim]`) give to each slot.
fn sums(q: &[f32], layout: BlockLayout, blocks: &[Vec<Vec<u8>>], rows: usize) -> Outcome<Vec<f32>> {
    let heads: Vec<_> = blocks.iter().map(|blocks| HeadView { layout, blocks: &blocks[..], len: rows }).collect();
    let scale = 1.0 / (layout.head_dim as f32).sqrt();
    let (mut out, mut sums) = (vec![0.0; q.len()], vec![0.0; q.len() / layout.head_dim]);
    let query = Query { q, rows, heads: &heads, bias: None, scale };
    let columns = Columns { reduce: ColumnReduce::Sum, out: &mut sums, factors: None };
    attend_batch(&mut [Job { query, out: &mut out, columns: Some(columns) }])?;
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
