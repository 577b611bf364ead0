//! How kernels see the cache: blocks of bytes, borrowed.

use headwise_core::Codec;

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

/// Where the numbers of a block lie: `K[slots][head_dim]`, then `V[slots][head_dim]`, in `codec`.
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
    pub fn row_bytes(&self) -> usize {
        self.head_dim * self.codec.bytes()
    }

    /// Bytes of the K half (and of the V half).
    pub fn half_bytes(&self) -> usize {
        self.slots * self.row_bytes()
    }

    /// Bytes of a block.
    pub fn bytes(&self) -> usize {
        2 * self.half_bytes()
    }

    /// Blocks that `len` slots need.
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
    /// Key rows of block `index`, only the filled ones: `[filled][head_dim]` in the layout's codec.
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
}
