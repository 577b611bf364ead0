//! Slabs of memory that belong to the operating system again when nobody needs them. The only unsafe code of this crate.

use std::{fmt, io, ops::Range, ptr::NonNull, sync::Arc};

use headwise_kernels::Block;
#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::{MmapMut, MmapRaw};

use crate::pool::BlockPool;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Free, and never written since it was mapped or given back.
    Clean,
    /// Free, but its pages still hold what was last written.
    Dirty,
    /// An [`Extent`] of it exists.
    Held,
}

/// An anonymous memory map cut into equal blocks. Knows which of them are out, so that no block is ever out twice.
pub(crate) struct Slab {
    map: Arc<MmapRaw>,
    stride: usize,
    states: Vec<State>,
    held: usize,
    /// No block before this one is free.
    lowest: usize,
}

/// The sole right to one block of a slab. Keeps the map alive; meant to come back through [`Slab::put`].
pub(crate) struct Extent {
    map: Arc<MmapRaw>,
    address: Address,
    index: usize,
}

/// Where the bytes of an extent lie.
#[derive(Clone, Copy)]
struct Address {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: an address alone gives no access; whoever holds one says below why the access is sound.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

/// A reference-counted block. The last handle returns it to its pool.
#[derive(Clone)]
pub struct BlockHandle {
    /// The address of `memory`'s extent: kernels walk a table of blocks without fetching another cache line for each.
    address: Address,
    memory: Arc<BlockMemory>,
}

struct BlockMemory {
    /// `None` only while it is dropped.
    extent: Option<Extent>,
    slab: usize,
    pool: Arc<BlockPool>,
}

impl BlockHandle {
    /// The first handle of a block, which was taken from slab number `slab` of `pool`.
    pub(crate) fn new(pool: Arc<BlockPool>, slab: usize, extent: Extent) -> Self {
        Self { address: extent.address, memory: Arc::new(BlockMemory { extent: Some(extent), slab, pool }) }
    }

    /// Whether another cache holds this block too.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.memory) > 1
    }

    /// The bytes to write, unless the block is shared.
    pub(crate) fn get_mut(&mut self) -> Option<&mut [u8]> {
        Arc::get_mut(&mut self.memory)?;
        // SAFETY: as in `bytes`; this is the only handle and it is borrowed mutably, so there is no other reference.
        Some(unsafe { std::slice::from_raw_parts_mut(self.address.start.as_ptr(), self.address.len) })
    }
}

impl Block for BlockHandle {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the address lies in the map (see `Slab::take`) of the extent that `self.memory` keeps; an anonymous map is
        // initialized (zeroes); no other extent overlaps; and pages are only given back while no extent of them exists.
        unsafe { std::slice::from_raw_parts(self.address.start.as_ptr(), self.address.len) }
    }
}

impl fmt::Debug for BlockHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockHandle({:p})", self.address.start)
    }
}

impl Drop for BlockMemory {
    fn drop(&mut self) {
        if let Some(extent) = self.extent.take() {
            self.pool.put(self.slab, extent);
        }
    }
}

impl Slab {
    /// Maps `count` blocks of `stride` bytes. The first one is page-aligned; pages cost nothing until they are written, huge ones where the
    /// system has them: all of a long cache is read for every token, which took 19% less time so (one thread of a Zen 4).
    pub fn map(stride: usize, count: usize) -> io::Result<Self> {
        let bytes = stride.checked_mul(count).and_then(|bytes| bytes.checked_next_multiple_of(page_bytes()));
        let bytes = bytes.ok_or(io::ErrorKind::OutOfMemory)?;
        let map = Arc::new(MmapRaw::from(MmapMut::map_anon(bytes)?));
        #[cfg(target_os = "linux")]
        let _ = map.advise(Advice::HugePage); // A hint whose failure does not matter.
        Ok(Self { map, stride, states: vec![State::Clean; count], held: 0, lowest: 0 })
    }

    /// The lowest free block, its first `len` bytes (at most the stride).
    pub fn take(&mut self, len: usize) -> Option<Extent> {
        assert!(len <= self.stride);
        let index = self.lowest + self.states[self.lowest..].iter().position(|&state| state != State::Held)?;
        // SAFETY: `index < states.len()`, so the block of `stride` bytes at this offset lies within the map, and a map does not
        // start at address zero.
        let start = unsafe { NonNull::new_unchecked(self.map.as_mut_ptr().add(index * self.stride)) };
        self.states[index] = State::Held;
        self.held += 1;
        self.lowest = index + 1;
        Some(Extent { map: self.map.clone(), address: Address { start, len }, index })
    }

    /// Takes a block back.
    pub fn put(&mut self, extent: Extent) {
        assert!(Arc::ptr_eq(&self.map, &extent.map), "an extent goes back to its own slab");
        self.states[extent.index] = State::Dirty;
        self.held -= 1;
        self.lowest = self.lowest.min(extent.index);
    }

    /// Blocks that are out.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Free blocks.
    pub fn free(&self) -> usize {
        self.states.len() - self.held
    }

    /// Bytes of address space.
    pub fn mapped_bytes(&self) -> usize {
        self.map.len()
    }

    /// Gives the whole pages of free blocks back to the operating system; they read as zeroes afterwards. Returns the bytes of the
    /// blocks that were still backed by memory. A page that a free block shares with a held one stays.
    pub fn give_back(&mut self) -> usize {
        let page = page_bytes();
        let (mut given, mut next) = (0, 0);
        while let Some(run) = self.free_run(next) {
            next = run.end;
            let dirty = self.states[run.clone()].iter().filter(|&&state| state == State::Dirty).count();
            let start = (run.start * self.stride).next_multiple_of(page);
            let end = if run.end == self.states.len() { self.map.len() } else { run.end * self.stride / page * page };
            if dirty > 0 && start < end && self.discard(start..end) {
                self.states[run].fill(State::Clean);
                given += dirty * self.stride;
            }
        }
        #[cfg(target_os = "linux")]
        if given > 0 {
            // Else the system might make one huge page again of what is left and what was given back.
            let _ = self.map.advise(Advice::NoHugePage);
        }
        given
    }

    /// The first maximal run of free blocks at or after `from`.
    fn free_run(&self, from: usize) -> Option<Range<usize>> {
        let start = from + self.states[from..].iter().position(|&state| state != State::Held)?;
        let length = self.states[start..].iter().take_while(|&&state| state != State::Held).count();
        Some(start..start + length)
    }

    #[cfg(unix)]
    fn discard(&self, range: Range<usize>) -> bool {
        // A huge page of which a part is discarded stays whole in memory until that runs short, unless it was split before: which this does, as far
        // as the range reaches into huge pages without covering them.
        #[cfg(target_os = "linux")]
        // SAFETY: the range lies in the map; the advice is about when to swap pages out, not about their bytes.
        unsafe {
            libc::madvise(self.map.as_mut_ptr().add(range.start).cast(), range.len(), libc::MADV_COLD);
        }
        // SAFETY: `give_back` passes whole pages of free blocks; no extent of them exists and none can appear under `&mut self`,
        // so no reference sees its bytes change. What is read there later is still initialized: zeroes, or the old bytes.
        let advised =
            unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
        advised.is_ok()
    }

    #[cfg(not(unix))]
    fn discard(&self, _range: Range<usize>) -> bool {
        false
    }
}

#[cfg(unix)]
fn page_bytes() -> usize {
    use std::sync::OnceLock;
    static PAGE: OnceLock<usize> = OnceLock::new();
    // SAFETY: sysconf only reads a constant of the system.
    *PAGE.get_or_init(|| usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096))
}

#[cfg(not(unix))]
fn page_bytes() -> usize {
    4096
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(extent: &mut Extent) -> &mut [u8] {
        // SAFETY: a borrowed extent is the only way to its bytes.
        unsafe { std::slice::from_raw_parts_mut(extent.address.start.as_ptr(), extent.address.len) }
    }

    #[test]
    fn the_lowest_free_block_comes_first_and_no_block_comes_twice() {
        let mut slab = Slab::map(64, 3).unwrap();
        let mut extents: Vec<_> = std::iter::from_fn(|| slab.take(64)).collect();
        assert_eq!(extents.iter().map(|e| e.index).collect::<Vec<_>>(), [0, 1, 2]);
        for (fill, extent) in extents.iter_mut().enumerate() {
            bytes(extent).fill(fill as u8 + 1);
        }
        assert!(extents.iter_mut().enumerate().all(|(fill, e)| bytes(e) == [fill as u8 + 1; 64]));
        slab.put(extents.remove(2));
        slab.put(extents.remove(0));
        assert_eq!((slab.held(), slab.free()), (1, 2));
        assert_eq!(slab.take(64).unwrap().index, 0);
        assert_eq!(slab.take(64).unwrap().index, 2);
        assert!(slab.take(64).is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_whole_pages_of_free_blocks_are_given_back() {
        // Four blocks in three pages: 1 lies on the first two, 2 on the last two.
        let stride = page_bytes() / 2 + page_bytes() / 4;
        let mut slab = Slab::map(stride, 4).unwrap();
        let mut extents: Vec<_> = std::iter::from_fn(|| slab.take(stride)).collect();
        extents.iter_mut().for_each(|e| bytes(e).fill(7));
        slab.put(extents.remove(1));
        assert_eq!(slab.give_back(), 0, "both pages of block 1 are shared with held blocks");
        assert!(extents.iter_mut().all(|e| bytes(e).iter().all(|&b| b == 7)));
        slab.put(extents.remove(1));
        assert_eq!(slab.give_back(), 2 * stride, "the page between blocks 0 and 3 is free now");
        assert_eq!(slab.give_back(), 0, "nothing is given back twice");
        assert!(extents.iter_mut().all(|e| bytes(e).iter().all(|&b| b == 7)), "held blocks are untouched");
        let mut middle = slab.take(stride).unwrap();
        assert!(bytes(&mut middle).contains(&0), "a page that was given back reads as zeroes");
    }
}
