//! How kernels see the cache: blocks of bytes, borrowed.

use crate::Buffer;
use crate::format;
use crate::rows::numbers;
use headwise_core::{Codec, Error, Result};

/// One block of a cache: the K rows of `slots` consecutive slots of one (layer, KV head), then their V rows.
pub trait Block: Sync {
    /// The whole block, [`BlockLayout::bytes`] long, aligned to 64 bytes.
    fn bytes(&self) -> &[u8];
}

/// A plain buffer is a block too (tests, benches). Its alignment is that of the allocation.
impl Block for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Where the rows of a block lie: `K[slots]`, then `V[slots]`, each row `head_dim` numbers in `codec` and, if it has one, their scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockLayout {
    /// Storage format.
    pub codec: Codec,
    /// Numbers in one key or value.
    pub head_dim: usize,
    /// Slots in one block.
    pub slots: usize,
}

impl BlockLayout {
    /// Bytes of one key or value row.
    #[inline]
    pub fn row_bytes(&self) -> usize {
        self.codec.row_bytes(self.head_dim)
    }

    /// Bytes of the K half (and of the V half).
    #[inline]
    pub fn half_bytes(&self) -> usize {
        self.slots * self.row_bytes()
    }

    /// Bytes of a block.
    #[inline]
    pub fn bytes(&self) -> usize {
        2 * self.half_bytes()
    }

    /// Blocks that `len` slots need.
    #[inline]
    pub fn blocks_for(&self, len: usize) -> usize {
        len.div_ceil(self.slots)
    }
}

/// The filled slots of one (layer, KV head), read-only. Slot `s` lies in block `s / slots` at row `s % slots`.
pub struct HeadView<'a, B> {
    /// Layout of every block.
    pub layout: BlockLayout,
    /// Block table; holds at least `layout.blocks_for(len)` blocks.
    pub blocks: &'a [B],
    /// Filled slots.
    pub len: usize,
}

impl<B> Clone for HeadView<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B> Copy for HeadView<'_, B> {}

impl<'a, B: Block> HeadView<'a, B> {
    /// Key rows of block `index`, only the filled ones: [`BlockLayout::row_bytes`] each.
    pub fn keys(&self, index: usize) -> &'a [u8] {
        &self.blocks[index].bytes()[..self.filled(index) * self.layout.row_bytes()]
    }

    /// Value rows of block `index`, only the filled ones.
    pub fn values(&self, index: usize) -> &'a [u8] {
        let half = self.layout.half_bytes();
        &self.blocks[index].bytes()[half..half + self.filled(index) * self.layout.row_bytes()]
    }

    /// Filled slots of block `index`.
    pub fn filled(&self, index: usize) -> usize {
        (self.len - index * self.layout.slots).min(self.layout.slots)
    }

    /// Blocks in use.
    pub fn block_count(&self) -> usize {
        self.layout.blocks_for(self.len)
    }

    /// All keys as f32, `[len][head_dim]`.
    pub fn all_keys(&self) -> Buffer {
        self.all(|block| self.keys(block))
    }

    /// All values as f32, `[len][head_dim]`.
    pub fn all_values(&self) -> Buffer {
        self.all(|block| self.values(block))
    }

    fn all(&self, rows: impl Fn(usize) -> &'a [u8]) -> Buffer {
        let mut out = Buffer::any(self.len * self.layout.head_dim);
        for (block, out) in out.chunks_mut(self.layout.slots * self.layout.head_dim).enumerate() {
            numbers(rows(block), self.layout.codec, self.layout.head_dim, out);
        }
        out
    }

    /// Number `d` of the key in `slot`; for references, one number at a time.
    pub fn key(&self, slot: usize, d: usize) -> f32 {
        self.number(self.keys(slot / self.layout.slots), slot, d)
    }

    /// Number `d` of the value in `slot`.
    pub fn value(&self, slot: usize, d: usize) -> f32 {
        self.number(self.values(slot / self.layout.slots), slot, d)
    }

    fn number(&self, rows: &[u8], slot: usize, d: usize) -> f32 {
        let row_bytes = self.layout.row_bytes();
        format::number(self.layout.codec, &rows[slot % self.layout.slots * row_bytes..][..row_bytes], d)
    }

    /// Refuses a view whose blocks are too few or too short for `len` slots.
    pub(crate) fn check(&self) -> Result<()> {
        if self.layout.slots == 0 || self.layout.head_dim == 0 {
            return Err(Error::invalid("layout", format!("{:?}", self.layout), "positive sizes"));
        }
        if self.blocks.len() < self.block_count() {
            return Err(Error::ShapeMismatch {
                what: "block table".into(),
                expected: vec![self.block_count()],
                got: vec![self.blocks.len()],
            });
        }
        let short = self.blocks[..self.block_count()].iter().find(|block| block.bytes().len() < self.layout.bytes());
        match short {
            Some(block) => Err(Error::ShapeMismatch {
                what: "block bytes".into(),
                expected: vec![self.layout.bytes()],
                got: vec![block.bytes().len()],
            }),
            None => Ok(()),
        }
    }
}

/// What a row of a block is.
#[derive(Clone, Copy)]
pub(crate) enum Half {
    Keys,
    Values,
}

/// The blocks of a [`HeadView`], whatever their type.
trait Blocks: Sync {
    /// Block `index` of those that there are.
    fn get(&self, index: usize) -> Option<&[u8]>;
}

impl<B: Block> Blocks for HeadView<'_, B> {
    fn get(&self, index: usize) -> Option<&[u8]> {
        self.blocks.get(index).map(Block::bytes)
    }
}

/// A [`HeadView`] that has forgotten the type of its blocks. Kernels work on it, so that they are compiled once and not again wherever there is another
/// type; finding a block is an indirect call, next to reading one it is nothing.
#[derive(Clone, Copy)]
pub(crate) struct AnyHead<'a> {
    /// As in the view.
    pub layout: BlockLayout,
    /// As in the view.
    pub len: usize,
    blocks: &'a dyn Blocks,
}

impl<B: Block> HeadView<'_, B> {
    /// The same, for kernels.
    pub(crate) fn any(&self) -> AnyHead<'_> {
        AnyHead { layout: self.layout, len: self.len, blocks: self }
    }
}

impl<'a> AnyHead<'a> {
    /// Block `index`, if there is one.
    pub fn block(&self, index: usize) -> Option<&'a [u8]> {
        self.blocks.get(index)
    }

    /// See [`HeadView::keys`] and [`HeadView::values`].
    pub fn rows(&self, index: usize, half: Half) -> &'a [u8] {
        let block = self.block(index).expect("blocks were counted");
        let start = match half {
            Half::Keys => 0,
            Half::Values => self.layout.half_bytes(),
        };
        &block[start..start + self.filled(index) * self.layout.row_bytes()]
    }

    /// See [`HeadView::filled`].
    pub fn filled(&self, index: usize) -> usize {
        (self.len - index * self.layout.slots).min(self.layout.slots)
    }

    /// See [`HeadView::block_count`].
    pub fn block_count(&self) -> usize {
        self.layout.blocks_for(self.len)
    }
}
