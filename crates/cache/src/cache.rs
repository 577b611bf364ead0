//! All layers of one sequence.

use std::fmt;
use std::sync::Arc;

use headwise_core::{Error, KvShape, Result, Rotation, Selection};
use headwise_kernels::HeadView;
use rayon::prelude::*;

use crate::head::{Head, Numbering, Rows};
use crate::mmap::BlockHandle;
use crate::pool::BlockPool;

/// Below so many bytes, moving slots is cheaper than waking a thread.
const PARALLEL_BYTES: usize = 128 << 10;

/// Keys and values of one sequence, with one length per (layer, KV head).
///
/// Positions ascend within a head; after compaction they are no longer the slot numbers. Methods panic, as indexing does, for a
/// layer or head that does not exist, unless they return a `Result`.
pub struct KvCache {
    pool: Arc<BlockPool>,
    shape: KvShape,
    layers: Vec<Layer>,
    numbering: Option<Numbering>,
}

#[derive(Clone)]
struct Layer {
    heads: Vec<Head>,
    /// One past the last position that was appended and not truncated.
    next_position: u32,
}

impl KvCache {
    /// An empty cache that takes its blocks from `pool`.
    ///
    /// # Errors
    /// `InvalidArgument` for a shape without KV heads, `ShapeMismatch` where the pool's blocks have another `head_dim`.
    pub fn new(pool: Arc<BlockPool>, shape: KvShape) -> Result<Self> {
        if shape.kv_heads == 0 {
            return Err(Error::invalid("kv_heads", shape.kv_heads, "at least one"));
        }
        let head_dim = pool.layout().head_dim;
        if shape.head_dim != head_dim {
            return Err(mismatch("blocks of the pool", &[head_dim], shape.head_dim));
        }
        let layer = Layer { heads: vec![Head::default(); shape.kv_heads], next_position: 0 };
        Ok(Self { pool, shape, layers: vec![layer; shape.layers], numbering: None })
    }

    /// The pool that the blocks come from.
    pub fn pool(&self) -> &Arc<BlockPool> {
        &self.pool
    }

    /// Dimensions.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Appends one slot per row to every head of a layer; the rows have the positions `first_position..`. `keys` and `values` are
    /// `[rows][kv_heads][head_dim]` and are rounded to the pool's codec (nearest, ties to even; in f16 infinite beyond its
    /// range; in int8 all of a row is NaN where one number is not finite).
    /// Costs what the new rows cost, however long the cache is. On an error, nothing has changed.
    ///
    /// # Errors
    /// `ShapeMismatch`; `InvalidArgument` for no such layer, or for positions that are not above those of the layer;
    /// `KvBudgetExceeded` or `OutOfMemory` where the pool gives no blocks.
    pub fn append(&mut self, layer: usize, keys: &[f32], values: &[f32], first_position: u32) -> Result<()> {
        let (layout, KvShape { kv_heads, head_dim, .. }) = (self.pool.layout(), self.shape);
        let stride = kv_heads * head_dim;
        let rows = keys.len() / stride;
        for (what, numbers) in [("keys", keys), ("values", values)] {
            if numbers.len() != rows * stride {
                return Err(mismatch(what, &[rows, kv_heads, head_dim], numbers.len()));
            }
        }
        let layer = layer_mut(&mut self.layers, layer)?;
        if first_position < layer.next_position {
            let expected = format!("at least {}, the layer's next position", layer.next_position);
            return Err(Error::invalid("first_position", first_position, &expected));
        }
        let end = u32::try_from(rows).ok().and_then(|rows| first_position.checked_add(rows));
        let end = end.ok_or_else(|| Error::invalid("first_position", first_position, "positions below 2^32"))?;
        if rows == 0 {
            return Ok(());
        }
        // All blocks or none: from here on nothing can fail.
        let needed = layer.heads.iter().map(|head| head.blocks_to_append(layout, rows)).sum();
        let mut fresh = self.pool.allocate(needed)?.into_iter();
        for (index, head) in layer.heads.iter_mut().enumerate() {
            let (keys, values) = (&keys[index * head_dim..], &values[index * head_dim..]);
            head.append(layout, Rows { keys, values, stride, count: rows, first_position }, &mut fresh);
        }
        layer.next_position = end;
        Ok(())
    }

    /// Keeps only the selected slots of a layer, in order, and frees the blocks that are no longer needed. See
    /// [`KvCache::compact_all`].
    ///
    /// # Errors
    /// As [`KvCache::compact_all`], and `InvalidArgument` for no such layer.
    pub fn compact(&mut self, layer: usize, selection: &Selection) -> Result<()> {
        layer_mut(&mut self.layers, layer)?;
        self.compact_from(layer, std::slice::from_ref(selection), None)
    }

    /// Keeps only the selected slots of every layer (one selection a layer), in order, and frees the blocks that are no longer
    /// needed. The survivors keep the rotary positions that they were read at.
    ///
    /// Survivors move forward in place. A block that another cache shares is copied before it changes and stays shared where it does
    /// not, so that a prefix which is kept as it is stays shared. On an error, nothing has changed in any layer.
    ///
    /// # Errors
    /// `ShapeMismatch` or `InvalidSelection` where the selections were made for another cache; `KvBudgetExceeded` or
    /// `OutOfMemory` where the pool gives no blocks for the copies; `InvalidArgument` for a cache that is [renumbered](Self::is_renumbered).
    pub fn compact_all(&mut self, selections: &[Selection]) -> Result<()> {
        match selections.len() == self.layers.len() {
            true => self.compact_from(0, selections, None),
            false => Err(mismatch("selections", &[self.layers.len()], selections.len())),
        }
    }

    /// [`compact_all`](Self::compact_all), and turns the keys that stay so that the evicted ones leave no gaps: in each head they get consecutive
    /// rotary positions, of which the last is the same in all heads, and the next token follows it. Where all heads keep the same number that
    /// is `0..kept`, as in kvpress's `KeyRerotationPress` and, for the latest tokens, in StreamingLLM (arXiv 2309.17453).
    ///
    /// Positions ([`positions`](Self::positions)) go on naming tokens. Keys are rounded to the codec once more. A cache that is renumbered stays so:
    /// later cuts close their gaps too.
    ///
    /// # Errors
    /// As [`compact_all`](Self::compact_all), and `InvalidArgument` when a pass is under way, so that layers have seen different tokens. On an error,
    /// nothing has changed.
    pub fn renumber_all(&mut self, selections: &[Selection], rotation: &dyn Rotation) -> Result<()> {
        if selections.len() != self.layers.len() {
            return Err(mismatch("selections", &[self.layers.len()], selections.len()));
        }
        if let Some(layer) = self.layers.iter().find(|layer| layer.next_position != self.next_position()) {
            let expected = format!("{} in all layers", self.next_position());
            return Err(Error::invalid("next position", layer.next_position, &expected));
        }
        self.compact_from(0, selections, Some(rotation))
    }

    /// [`compact_all`](Self::compact_all) of the first layers, one for each selection.
    ///
    /// # Errors
    /// As [`compact_all`](Self::compact_all).
    pub fn compact_first(&mut self, selections: &[Selection]) -> Result<()> {
        match selections.len() <= self.layers.len() {
            true => self.compact_from(0, selections, None),
            false => Err(mismatch("selections", &[self.layers.len()], selections.len())),
        }
    }

    fn compact_from(&mut self, first: usize, selections: &[Selection], rotation: Option<&dyn Rotation>) -> Result<()> {
        if self.numbering.is_some() && rotation.is_none() {
            return Err(Error::invalid("selections", "of a renumbered cache", "renumber_all"));
        }
        let layout = self.pool.layout();
        let numbering = self.numbering;
        let longest = selections.iter().flat_map(|s| (0..s.heads()).map(|head| s.head(head).len())).max().unwrap_or(0);
        let first_rotary = |keep: &[u32]| (longest - keep.len()) as u32;
        let mut jobs = Vec::new();
        for (layer, selection) in self.layers[first..].iter_mut().zip(selections) {
            if selection.heads() != layer.heads.len() {
                return Err(mismatch("selection", &[layer.heads.len()], selection.heads()));
            }
            for (index, head) in layer.heads.iter_mut().enumerate() {
                let keep = selection.head(index);
                if keep.last().is_some_and(|&last| last as usize >= head.len()) {
                    return Err(Error::InvalidSelection { head: index, index: keep.len() - 1 });
                }
                let from = rotation.map(|_| {
                    let all = rotary_positions(head, numbering);
                    keep.iter().map(|&slot| all[slot as usize]).collect::<Vec<_>>()
                });
                let needed = match &from {
                    Some(from) => head.blocks_to_renumber(layout, keep, from, first_rotary(keep)),
                    None => head.blocks_to_compact(layout, keep),
                };
                jobs.push((needed, head, keep, from));
            }
        }
        // All blocks or none: from here on nothing can fail.
        let mut fresh = self.pool.allocate(jobs.iter().map(|(needed, ..)| needed).sum())?;
        let jobs: Vec<_> = jobs
            .into_iter()
            .map(|(needed, head, keep, from)| (head, keep, from, fresh.split_off(fresh.len() - needed)))
            .collect();
        let run = |(head, keep, from, fresh): (&mut Head, &[u32], Option<Vec<u32>>, Vec<BlockHandle>)| {
            let mut fresh = fresh.into_iter();
            head.compact(layout, keep, &mut fresh);
            head.truncate(layout, keep.len());
            if let (Some(rotation), Some(from)) = (rotation, from) {
                head.renumber(layout, &from, first_rotary(keep), rotation, &mut fresh);
            }
        };
        let total: usize = selections.iter().map(Selection::total).sum();
        if total * 2 * layout.row_bytes() < PARALLEL_BYTES {
            jobs.into_iter().for_each(run);
        } else {
            jobs.into_par_iter().for_each(run);
        }
        if rotation.is_some() {
            self.numbering = Some(Numbering { from: self.next_position(), to: longest as u32 });
        }
        Ok(())
    }

    /// A second cache with the same content, which shares every block until one of the two changes it.
    pub fn fork(&self) -> Self {
        Self { pool: self.pool.clone(), shape: self.shape, layers: self.layers.clone(), numbering: self.numbering }
    }

    /// Forgets every slot of every layer whose position is `position` or above, and frees its blocks.
    ///
    /// Undoes a forward pass that failed half-way: `let before = cache.next_position(); … cache.truncate(before)`. What a
    /// compaction evicted in between does not come back.
    pub fn truncate(&mut self, position: u32) {
        for layer in &mut self.layers {
            layer.next_position = layer.next_position.min(position);
            for head in &mut layer.heads {
                let len = head.positions().partition_point(|&p| p < position);
                head.truncate(self.pool.layout(), len);
            }
        }
        // Gaps that were closed stay closed: the next token follows the last one that was ever there.
        if let Some(numbering) = &mut self.numbering {
            numbering.from = numbering.from.min(position);
        }
        if position == 0 {
            self.numbering = None;
        }
    }

    /// Forgets everything and frees all blocks.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Position of the next token: one past the last one that every layer has seen, whether or not its slot was evicted since.
    pub fn next_position(&self) -> u32 {
        self.layers.iter().map(|layer| layer.next_position).min().unwrap_or(0)
    }

    /// The rotary position of the next token: [`next_position`](Self::next_position), unless gaps were closed.
    pub fn next_rotary_position(&self) -> u32 {
        self.rotary_position(self.next_position())
    }

    /// The rotary position of a token that is yet to come, at `position`: not below [`next_position`](Self::next_position).
    pub fn rotary_position(&self, position: u32) -> u32 {
        self.numbering.map_or(position, |Numbering { from, to }| to + (position - from))
    }

    /// Whether gaps were closed ([`renumber_all`](Self::renumber_all)), so that tokens are not turned to their positions.
    pub fn is_renumbered(&self) -> bool {
        self.numbering.is_some()
    }

    /// The rotary position of each slot of a head, ascending.
    pub fn rotary_positions(&self, layer: usize, head: usize) -> Vec<u32> {
        rotary_positions(&self.layers[layer].heads[head], self.numbering)
    }

    /// The heads of a layer, for kernels.
    pub fn heads(&self, layer: usize) -> impl ExactSizeIterator<Item = HeadView<'_, BlockHandle>> {
        self.layers[layer].heads.iter().map(|head| head.view(self.pool.layout()))
    }

    /// One head, for kernels.
    pub fn head(&self, layer: usize, head: usize) -> HeadView<'_, BlockHandle> {
        self.layers[layer].heads[head].view(self.pool.layout())
    }

    /// The token position of each slot of a head, ascending.
    pub fn positions(&self, layer: usize, head: usize) -> &[u32] {
        self.layers[layer].heads[head].positions()
    }

    /// Filled slots of a head.
    pub fn len(&self, layer: usize, head: usize) -> usize {
        self.layers[layer].heads[head].len()
    }

    /// Filled slots of each head of a layer.
    pub fn lengths(&self, layer: usize) -> Vec<usize> {
        self.layers[layer].heads.iter().map(Head::len).collect()
    }

    /// Whether no head holds a slot.
    pub fn is_empty(&self) -> bool {
        self.all_heads().all(|head| head.len() == 0)
    }

    /// Bytes of the filled slots.
    pub fn logical_bytes(&self) -> usize {
        self.all_heads().map(Head::len).sum::<usize>() * self.shape.slot_bytes(self.pool.layout().codec)
    }

    /// Bytes of the blocks that this cache holds, shared ones included.
    pub fn physical_bytes(&self) -> usize {
        self.all_heads().map(|head| head.blocks().len()).sum::<usize>() * self.pool.block_bytes()
    }

    /// Bytes of the blocks that another cache holds too.
    pub fn shared_bytes(&self) -> usize {
        self.all_heads().flat_map(Head::blocks).filter(|block| block.is_shared()).count() * self.pool.block_bytes()
    }

    fn all_heads(&self) -> impl Iterator<Item = &Head> {
        self.layers.iter().flat_map(|layer| &layer.heads)
    }
}

impl fmt::Debug for KvCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("KvCache");
        fields.field("shape", &self.shape).field("next_position", &self.next_position());
        fields.field("logical_bytes", &self.logical_bytes()).finish_non_exhaustive()
    }
}

fn rotary_positions(head: &Head, numbering: Option<Numbering>) -> Vec<u32> {
    match numbering {
        Some(numbering) => head.rotary_positions(numbering).collect(),
        None => head.positions().to_vec(),
    }
}

fn layer_mut(layers: &mut [Layer], layer: usize) -> Result<&mut Layer> {
    let count = layers.len();
    layers.get_mut(layer).ok_or_else(|| Error::invalid("layer", layer, &format!("below {count}")))
}

fn mismatch(what: &str, expected: &[usize], got: usize) -> Error {
    Error::ShapeMismatch { what: what.into(), expected: expected.into(), got: vec![got] }
}
