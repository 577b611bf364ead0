//! Blocks of one size for all caches of an engine.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwise_core::{Codec, Error, Result};
use headwise_kernels::BlockLayout;

use crate::mmap::{BlockHandle, Extent, Slab};

/// A slab is as large as a huge page, so that the system may back a full one with a single translation.
const SLAB_BYTES: usize = 2 << 20;
/// Bounds the search within a slab of tiny blocks.
const MOST_BLOCKS: usize = 1024;
/// Cache line and widest vector register.
const ALIGNMENT: usize = 64;
/// Smallest page of the systems we run on.
const PAGE: usize = 4096;

/// Slots in a block: 32 where that fills whole pages, else 64 where that does, else as many as leave the smallest part of their pages empty.
///
/// A head wastes half a block on average and frees memory a block at a time, which asks for small blocks; only whole pages can
/// go back to the operating system, and every block costs a reference count and a pointer chase, which asks for large ones.
/// Measured on a 4K-token cache of 90 heads of 64 f16 numbers, reading all of it is as fast with 32 slots as with 64 or 256, and
/// blocks of 16 fork five times slower. 32 slots of 64 f16 numbers are two pages. 64 serves narrow heads and dimensions such as 80 or 112, whose 32 slots end within a page. Where rows carry a scale the usual
/// dimensions fill no pages: 60 slots of 64 bytes and their scales take 8160 bytes of two.
pub fn block_slots(head_dim: usize, codec: Codec) -> usize {
    // What is left of the last page. Slots are multiples of four, which kernels work on together.
    let empty = |slots: usize| codec.row_bytes(head_dim).wrapping_mul(2 * slots).wrapping_neg() % PAGE;
    let by_fours = (32..=64).rev().step_by(4);
    std::iter::once(32).chain(by_fours).min_by_key(|&slots| empty(slots) * 64 / slots).unwrap_or(64)
}

/// The layout with [`block_slots`] slots in a block.
pub fn block_layout(head_dim: usize, codec: Codec) -> BlockLayout {
    BlockLayout { codec, head_dim, slots: block_slots(head_dim, codec) }
}

/// Hands out blocks of one layout, up to a limit, and gives what is free back to the operating system.
///
/// Low blocks of low slabs go first, so that high slabs empty out. Freed blocks stay resident for reuse until
/// [`trim`](Self::trim).
pub struct BlockPool {
    layout: BlockLayout,
    stride: usize,
    limit: Option<usize>,
    slabs: Mutex<Slabs>,
}

#[derive(Default)]
struct Slabs {
    /// A slab keeps its index for life; `None` was unmapped and may be mapped again.
    slabs: Vec<Option<Slab>>,
    /// Slabs with a free block.
    open: BTreeSet<usize>,
    free: usize,
    held: usize,
}

impl BlockPool {
    /// A pool of blocks of this layout, aligned to 64 bytes (to pages, where a block is a multiple of a page) that never holds more
    /// than `limit_bytes`. Maps nothing yet.
    ///
    /// # Errors
    /// `InvalidArgument` for a block of no bytes, or of more than the address space.
    pub fn new(layout: BlockLayout, limit_bytes: Option<usize>) -> Result<Arc<Self>> {
        let bytes = layout.row_bytes().checked_mul(2).and_then(|bytes| bytes.checked_mul(layout.slots));
        let stride = bytes.filter(|&bytes| layout.head_dim > 0 && bytes > 0 && bytes < isize::MAX as usize / 2);
        let stride = stride.ok_or_else(|| {
            let value = format!("{} slots of {} numbers", layout.slots, layout.head_dim);
            Error::invalid("block layout", value, "a block that is not empty and fits the address space")
        })?;
        let stride = stride.next_multiple_of(ALIGNMENT);
        Ok(Arc::new(Self { layout, stride, limit: limit_bytes, slabs: Mutex::default() }))
    }

    /// Layout of every block.
    pub fn layout(&self) -> BlockLayout {
        self.layout
    }

    /// Bytes that one block takes.
    pub fn block_bytes(&self) -> usize {
        self.stride
    }

    /// Most bytes that may be held.
    pub fn limit_bytes(&self) -> Option<usize> {
        self.limit
    }

    /// Bytes of all blocks that are held, each counted once however many caches share it.
    pub fn held_bytes(&self) -> usize {
        self.lock().held * self.stride
    }

    /// Bytes of address space: held blocks, free blocks, and pages that were never touched.
    pub fn mapped_bytes(&self) -> usize {
        self.lock().slabs.iter().flatten().map(Slab::mapped_bytes).sum()
    }

    /// Gives memory of free blocks back to the operating system: slabs without a held block are unmapped, and in the others
    /// (on Unix) the whole pages of free blocks are discarded. Returns the bytes that were given back, where unmapped slabs count whole.
    pub fn trim(&self) -> usize {
        let mut slabs = self.lock();
        let Slabs { slabs, open, free, .. } = &mut *slabs;
        let mut given = 0;
        for (index, entry) in slabs.iter_mut().enumerate() {
            match entry {
                Some(slab) if slab.held() == 0 => {
                    given += slab.mapped_bytes();
                    *free -= slab.free();
                    open.remove(&index);
                    *entry = None;
                }
                Some(slab) => given += slab.give_back(),
                None => {}
            }
        }
        given
    }

    /// `count` blocks of arbitrary content, or none.
    ///
    /// # Errors
    /// `KvBudgetExceeded` where the limit does not allow them, `OutOfMemory` where the system does not.
    pub(crate) fn allocate(self: &Arc<Self>, count: usize) -> Result<Vec<BlockHandle>> {
        let mut slabs = self.lock();
        let (requested, held) = (count.saturating_mul(self.stride), slabs.held * self.stride);
        if let Some(limit) = self.limit
            && requested > limit.saturating_sub(held)
        {
            return Err(Error::KvBudgetExceeded { requested, held, limit });
        }
        // Map all that is missing before the first block is taken: then nothing has to be undone.
        while slabs.free < count {
            slabs.map(self.stride)?;
        }
        let take = |_| {
            let (slab, extent) = slabs.take(self.layout.bytes());
            BlockHandle::new(self.clone(), slab, extent)
        };
        Ok((0..count).map(take).collect())
    }

    /// Takes a block of slab number `slab` back.
    pub(crate) fn put(&self, slab: usize, extent: Extent) {
        self.lock().put(slab, extent);
    }

    fn lock(&self) -> MutexGuard<'_, Slabs> {
        self.slabs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slabs {
    fn map(&mut self, stride: usize) -> Result<()> {
        let count = (SLAB_BYTES / stride).clamp(1, MOST_BLOCKS);
        let slab = Slab::map(stride, count)
            .map_err(|error| Error::OutOfMemory { bytes: stride * count, reason: error.to_string() })?;
        let index = self.slabs.iter().position(Option::is_none).unwrap_or(self.slabs.len());
        if index == self.slabs.len() {
            self.slabs.push(None);
        }
        self.slabs[index] = Some(slab);
        self.open.insert(index);
        self.free += count;
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> (usize, Extent) {
        let index = *self.open.first().expect("a slab with a free block");
        let slab = self.slabs[index].as_mut().expect("an open slab is mapped");
        let extent = slab.take(bytes).expect("an open slab has a free block");
        if slab.free() == 0 {
            self.open.remove(&index);
        }
        self.free -= 1;
        self.held += 1;
        (index, extent)
    }

    fn put(&mut self, index: usize, extent: Extent) {
        self.slabs[index].as_mut().expect("a slab with a held block is mapped").put(extent);
        self.open.insert(index);
        self.free += 1;
        self.held -= 1;
    }
}

impl fmt::Debug for BlockPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("BlockPool");
        fields.field("layout", &self.layout).field("limit", &self.limit).field("held_bytes", &self.held_bytes());
        fields.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwise_kernels::Block;

    const LAYOUT: BlockLayout = BlockLayout { codec: Codec::F16, head_dim: 64, slots: 32 };

    #[test]
    fn blocks_are_page_aligned_where_they_fill_pages_and_line_aligned_elsewhere() {
        for (head_dim, slots, alignment) in [(64, 32, 4096), (128, 32, 4096), (5, 3, 64), (80, 32, 64)] {
            let pool = BlockPool::new(BlockLayout { head_dim, slots, ..LAYOUT }, None).unwrap();
            for block in pool.allocate(9).unwrap() {
                assert_eq!(block.bytes().len(), pool.layout().bytes());
                assert_eq!(block.bytes().as_ptr() as usize % alignment, 0);
            }
        }
    }

    #[test]
    fn the_default_block_is_a_whole_number_of_pages_for_the_usual_heads() {
        for codec in [Codec::F32, Codec::F16, Codec::Bf16] {
            for head_dim in [16, 32, 64, 80, 96, 112, 128, 192, 256] {
                assert_eq!(block_layout(head_dim, codec).bytes() % PAGE, 0, "{head_dim} {codec:?}");
            }
        }
        assert_eq!(block_slots(64, Codec::F16), 32);
        assert_eq!(block_slots(80, Codec::F16), 64);
    }

    #[test]
    fn scales_leave_little_of_the_pages_empty() {
        for head_dim in [32, 64, 80, 96, 112, 128, 192, 256] {
            let layout = block_layout(head_dim, Codec::Int8);
            assert!((32..=64).contains(&layout.slots) && layout.slots.is_multiple_of(4), "{layout:?}");
            assert!(layout.bytes() * 20 >= layout.bytes().next_multiple_of(PAGE) * 19, "{layout:?}");
        }
        assert_eq!((block_slots(64, Codec::Int8), block_layout(64, Codec::Int8).bytes()), (60, 60 * 2 * 68));
        assert_eq!(block_slots(16, Codec::Int8), 64, "less than a page");
        assert!((32..=64).contains(&block_slots(usize::MAX, Codec::Int8)));
    }

    #[test]
    fn beyond_the_limit_nothing_is_allocated() {
        let pool = BlockPool::new(LAYOUT, Some(3 * 8192 + 8191)).unwrap();
        let two = pool.allocate(2).unwrap();
        let error = pool.allocate(2).unwrap_err();
        assert_eq!(error, Error::KvBudgetExceeded { requested: 2 * 8192, held: 2 * 8192, limit: 3 * 8192 + 8191 });
        assert_eq!(pool.held_bytes(), 2 * 8192);
        assert_eq!(pool.allocate(1).unwrap().len(), 1);
        drop(two);
        assert_eq!(pool.allocate(3).unwrap().len(), 3);
        assert_eq!(pool.held_bytes(), 0);
        assert!(pool.allocate(usize::MAX).is_err());
    }

    #[test]
    fn what_the_system_cannot_map_is_out_of_memory() {
        let pool = BlockPool::new(BlockLayout { head_dim: 1 << 30, slots: 1 << 28, ..LAYOUT }, None).unwrap();
        assert!(matches!(pool.allocate(1), Err(Error::OutOfMemory { .. })));
        assert_eq!((pool.held_bytes(), pool.mapped_bytes()), (0, 0));
        for codec in [Codec::F16, Codec::Int8] {
            for (head_dim, slots) in [(0, 32), (64, 0), (1 << 40, 1 << 40), (usize::MAX, 1), (usize::MAX, usize::MAX)] {
                let error = BlockPool::new(BlockLayout { codec, head_dim, slots }, None).unwrap_err();
                assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
            }
        }
    }

    #[test]
    fn low_slabs_fill_first_so_that_high_ones_can_be_unmapped() {
        let pool = BlockPool::new(LAYOUT, None).unwrap();
        let per_slab = SLAB_BYTES / pool.block_bytes();
        let mut blocks: Vec<_> = (0..3).flat_map(|_| pool.allocate(per_slab).unwrap()).collect();
        assert_eq!(pool.mapped_bytes(), 3 * SLAB_BYTES);
        // Free one block of the first slab: the next one must come from there, so that the last slab can go.
        let freed = blocks.remove(7).bytes().as_ptr();
        blocks.truncate(3 * per_slab - 3);
        let again = pool.allocate(1).unwrap();
        assert_eq!(again[0].bytes().as_ptr(), freed);
        blocks.truncate(2 * per_slab - 1);
        assert!(pool.trim() >= SLAB_BYTES);
        assert_eq!(pool.mapped_bytes(), 2 * SLAB_BYTES);
        drop((blocks, again));
        assert_eq!(pool.trim(), 2 * SLAB_BYTES);
        assert_eq!((pool.mapped_bytes(), pool.held_bytes()), (0, 0));
        assert_eq!(pool.allocate(1).unwrap()[0].bytes()[0], 0, "a pool works on after all of it was unmapped");
    }

    #[test]
    fn a_block_outlives_every_other_owner_of_its_pool() {
        let pool = BlockPool::new(LAYOUT, None).unwrap();
        let mut block = pool.allocate(1).unwrap().remove(0);
        drop(pool);
        block.get_mut().unwrap().fill(3);
        let twin = block.clone();
        assert!(block.is_shared() && block.get_mut().is_none());
        drop(block);
        assert!(!twin.is_shared() && twin.bytes().iter().all(|&b| b == 3));
    }
}
