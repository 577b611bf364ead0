//! Large buffers for what is soon forgotten.

use memmap2::MmapMut;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Numbers in memory that is the operating system's again once nobody needs it: an allocator might keep what a long cache's scores took, as much as
/// their eviction frees. While a [`ReuseBuffers`] exists it is the next buffer's instead, which the system need not clear again. Reads as a slice.
pub struct Buffer {
    /// `None` only while it is dropped.
    map: Option<MmapMut>,
    len: usize,
}

/// While one exists, the memory of a [`Buffer`] that is dropped stays for the next one as large; when one is dropped, all that lies ready goes back to
/// the operating system. Make one for work that asks for many.
pub struct ReuseBuffers(());

struct Pool {
    users: usize,
    free: Vec<MmapMut>,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { users: 0, free: Vec::new() });

fn with_pool<T>(f: impl FnOnce(&mut Pool) -> T) -> T {
    f(&mut POOL.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Buffer {
    /// `len` numbers, of which each may be any: what was there before. Whoever asks writes all of them.
    pub(crate) fn any(len: usize) -> Self {
        // Powers of two: heads of different lengths use the same memory. What was never written takes none.
        let bytes = (len * size_of::<f32>()).max(1 << 12).next_power_of_two();
        let free = with_pool(|pool| {
            let index = pool.free.iter().rposition(|map| map.len() == bytes)?;
            Some(pool.free.swap_remove(index))
        });
        let map = free.unwrap_or_else(|| MmapMut::map_anon(bytes).expect("memory for a buffer"));
        Self { map: Some(map), len }
    }

    fn map(&self) -> &MmapMut {
        self.map.as_ref().expect("not dropped")
    }
}

impl Deref for Buffer {
    type Target = [f32];

    #[inline]
    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(self.map())[..self.len]
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(self.map.as_mut().expect("not dropped"))[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(map) = self.map.take() else { return };
        // What is not kept is unmapped after the lock is open again.
        let _unmapped = with_pool(|pool| match pool.users {
            0 => Some(map),
            _ => {
                pool.free.push(map);
                None
            }
        });
    }
}

impl ReuseBuffers {
    /// From now on.
    #[must_use]
    pub fn start() -> Self {
        with_pool(|pool| pool.users += 1);
        Self(())
    }
}

impl Drop for ReuseBuffers {
    fn drop(&mut self) {
        let _unmapped = with_pool(|pool| {
            pool.users -= 1;
            // Others' too, who map theirs again: where cuts always overlap, there is no last one.
            std::mem::take(&mut pool.free)
        });
    }
}
