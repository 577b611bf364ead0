//! The slots of one (layer, KV head): a block table and a position for each slot.

use headwise_core::Rotation;
use headwise_kernels::{self as kernels, Block, BlockLayout, HeadView};

use crate::mmap::BlockHandle;
use headwise_kernels::encode;

/// What is appended to one head: row `i` is `keys[i * stride..][..head_dim]`, and has position `first_position + i`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub keys: &'a [f32],
    pub values: &'a [f32],
    pub stride: usize,
    pub count: usize,
    pub first_position: u32,
}

/// `blocks` holds exactly the blocks that `positions.len()` slots need.
#[derive(Clone, Default)]
pub(crate) struct Head {
    blocks: Vec<BlockHandle>,
    positions: Vec<u32>,
    /// Rotary position of the first slot, where the cache was renumbered.
    first_rotary: u32,
}

/// How positions and rotary positions differ behind the last cut that closed gaps: a token at `from + n` is turned to `to + n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbering {
    pub from: u32,
    pub to: u32,
}

impl Head {
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    pub fn blocks(&self) -> &[BlockHandle] {
        &self.blocks
    }

    pub fn view(&self, layout: BlockLayout) -> HeadView<'_, BlockHandle> {
        HeadView { layout, blocks: &self.blocks, len: self.len() }
    }

    /// Blocks that [`append`](Self::append) of so many rows takes: new ones, and one for a shared tail that must be copied.
    pub fn blocks_to_append(&self, layout: BlockLayout, rows: usize) -> usize {
        let has_room = !self.len().is_multiple_of(layout.slots);
        let copied = rows > 0 && has_room && self.blocks.last().is_some_and(BlockHandle::is_shared);
        layout.blocks_for(self.len() + rows) - self.blocks.len() + usize::from(copied)
    }

    /// Appends rows, taking blocks from `fresh`, of which there must be enough.
    pub fn append(&mut self, layout: BlockLayout, rows: Rows, fresh: &mut impl Iterator<Item = BlockHandle>) {
        let mut fresh = || fresh.next().expect("blocks were counted before");
        let mut done = 0;
        while done < rows.count {
            let at = (self.len() + done) % layout.slots;
            if at == 0 {
                self.blocks.push(fresh());
            }
            let tail = self.blocks.last_mut().expect("a block with room");
            if tail.get_mut().is_none() {
                *tail = copy_of(tail, layout, at, fresh());
            }
            let (keys, values) = unshared(tail).split_at_mut(layout.half_bytes());
            let count = (layout.slots - at).min(rows.count - done);
            for (row, slot) in (done..done + count).zip(at..) {
                let bytes = slot * layout.row_bytes()..(slot + 1) * layout.row_bytes();
                let numbers = row * rows.stride..row * rows.stride + layout.head_dim;
                encode(layout.codec, &rows.keys[numbers.clone()], &mut keys[bytes.clone()]);
                encode(layout.codec, &rows.values[numbers], &mut values[bytes]);
            }
            done += count;
        }
        self.positions.extend((rows.first_position..).take(rows.count));
    }

    /// Shared blocks that [`compact`](Self::compact) rewrites, so that it needs another block for each.
    pub fn blocks_to_compact(&self, layout: BlockLayout, keep: &[u32]) -> usize {
        let rewritten = first_moved(keep) / layout.slots..layout.blocks_for(keep.len());
        if first_moved(keep) == keep.len() {
            0
        } else {
            self.blocks[rewritten].iter().filter(|b| b.is_shared()).count()
        }
    }

    /// Moves the slots `keep` (ascending, below the length) forward to `0..keep.len()`. Survivors that stay where they are are not
    /// touched, and neither are the blocks before the first one that moves. What is beyond stays until [`truncate`](Self::truncate).
    pub fn compact(&mut self, layout: BlockLayout, keep: &[u32], fresh: impl IntoIterator<Item = BlockHandle>) {
        let first = first_moved(keep);
        if first == keep.len() {
            return;
        }
        let start = first / layout.slots * layout.slots;
        let own: Option<Vec<_>> = self.blocks[start / layout.slots..].iter_mut().map(BlockHandle::get_mut).collect();
        if let Some(mut own) = own {
            let keep: Vec<u32> = keep[start..].iter().map(|slot| slot - start as u32).collect();
            kernels::compact(&mut own, layout, &keep).expect("slots of this head, ascending");
        } else {
            self.compact_shared(layout, &keep[start..], start, fresh.into_iter());
        }
        for (to, &from) in keep.iter().enumerate().skip(first) {
            self.positions[to] = self.positions[from as usize];
        }
    }

    /// Moves the slots `keep` to `start..`, where a block starts. Shared blocks are only read; a fresh one takes the place of each
    /// that would change.
    fn compact_shared(
        &mut self,
        layout: BlockLayout,
        keep: &[u32],
        start: usize,
        mut fresh: impl Iterator<Item = BlockHandle>,
    ) {
        let half = layout.half_bytes();
        for (index, sources) in (start / layout.slots..).zip(keep.chunks(layout.slots)) {
            // Slots only move forward, so this block is no source for the ones after it and its old content may go.
            let old = self.blocks[index].bytes().to_vec();
            if self.blocks[index].get_mut().is_none() {
                self.blocks[index] = fresh.next().expect("blocks were counted before");
            }
            let (before, later) = self.blocks.split_at_mut(index + 1);
            let (keys, values) = unshared(&mut before[index]).split_at_mut(half);
            for (to, &from) in sources.iter().enumerate() {
                let (block, from) = (from as usize / layout.slots, from as usize % layout.slots);
                let source = if block == index { &old } else { later[block - index - 1].bytes() };
                let bytes = |slot| slot * layout.row_bytes()..(slot + 1) * layout.row_bytes();
                keys[bytes(to)].copy_from_slice(&source[..half][bytes(from)]);
                values[bytes(to)].copy_from_slice(&source[half..][bytes(from)]);
            }
        }
    }

    /// Shared blocks that change when the slots `keep` move forward and the keys are turned from the rotary positions `from` to `first..`.
    pub fn blocks_to_renumber(&self, layout: BlockLayout, keep: &[u32], from: &[u32], first: u32) -> usize {
        let moved = first_moved(keep) / layout.slots;
        let turns = |from: &[u32], first: u32| (first..).zip(from).any(|(to, &from)| to != from);
        let firsts = (first..).step_by(layout.slots);
        let blocks = self.blocks.iter().zip(from.chunks(layout.slots).zip(firsts)).enumerate();
        blocks
            .filter(|(index, (block, (from, first)))| block.is_shared() && (*index >= moved || turns(from, *first)))
            .count()
    }

    /// Turns the key of each slot `i` from the rotary position `from[i]` to `first + i`. Blocks in which nothing turns are not touched.
    pub fn renumber(
        &mut self,
        layout: BlockLayout,
        from: &[u32],
        first: u32,
        rotation: &dyn Rotation,
        fresh: &mut impl Iterator<Item = BlockHandle>,
    ) {
        let mut keys = Vec::new();
        let firsts = (first..).step_by(layout.slots);
        for ((block, from), first) in self.blocks.iter_mut().zip(from.chunks(layout.slots)).zip(firsts) {
            let slots: Vec<(u32, u32)> = from.iter().copied().zip(first..).collect();
            if slots.iter().all(|(from, to)| from == to) {
                continue;
            }
            if block.get_mut().is_none() {
                *block = copy_of(block, layout, from.len(), fresh.next().expect("blocks were counted before"));
            }
            let mut rows = unshared(block);
            // Neighbours mostly turn by the same angle, which is worked out once for them.
            for run in slots.chunk_by(|a, b| a.0.wrapping_sub(a.1) == b.0.wrapping_sub(b.1)) {
                let (own, later) = std::mem::take(&mut rows).split_at_mut(run.len() * layout.row_bytes());
                rows = later;
                let (from, to) = run[0];
                if from != to {
                    keys.resize(run.len() * layout.head_dim, 0.0);
                    kernels::numbers(own, layout.codec, layout.head_dim, &mut keys);
                    rotation.renumber(&mut keys, from, to);
                    for (key, row) in keys.chunks_exact(layout.head_dim).zip(own.chunks_exact_mut(layout.row_bytes())) {
                        encode(layout.codec, key, row);
                    }
                }
            }
        }
        self.first_rotary = first;
    }

    /// The rotary position of each slot, where the cache was renumbered as `numbering` says.
    pub fn rotary_positions(&self, numbering: Numbering) -> impl Iterator<Item = u32> {
        let of_slot = move |(slot, &position): (u32, &u32)| match position.checked_sub(numbering.from) {
            Some(since) => numbering.to + since,
            None => self.first_rotary + slot,
        };
        (0..).zip(&self.positions).map(of_slot)
    }

    /// Drops every slot from `len` on, and the memory for it.
    pub fn truncate(&mut self, layout: BlockLayout, len: usize) {
        if len < self.len() {
            self.positions.truncate(len);
            self.positions.shrink_to_fit();
            self.blocks.truncate(layout.blocks_for(len));
            self.blocks.shrink_to_fit();
        }
    }
}

/// The first survivor that does not stay where it is, or their number.
fn first_moved(keep: &[u32]) -> usize {
    keep.iter().zip(0..).position(|(&from, to)| from != to).unwrap_or(keep.len())
}

fn unshared(block: &mut BlockHandle) -> &mut [u8] {
    block.get_mut().expect("a block that is not shared")
}

/// `fresh` with the first `rows` slots of `block`.
fn copy_of(block: &BlockHandle, layout: BlockLayout, rows: usize, mut fresh: BlockHandle) -> BlockHandle {
    let copy = unshared(&mut fresh);
    for start in [0, layout.half_bytes()] {
        let bytes = start..start + rows * layout.row_bytes();
        copy[bytes.clone()].copy_from_slice(&block.bytes()[bytes]);
    }
    fresh
}
