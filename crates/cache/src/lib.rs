//! The KV cache of headwise: paged, ragged (one length per layer and KV head), and physically freeing.
//!
//! A [`BlockPool`] cuts anonymous memory maps into blocks; a [`KvCache`] holds, per (layer, KV head), a table of such blocks and
//! the true position of each slot. Forks share blocks by reference counting and copy them when they write. What compaction
//! frees goes back to the pool at once and to the operating system with [`BlockPool::trim`]. No policy is known here.

mod cache;
mod head;
mod mmap;
mod pool;

pub use cache::KvCache;
pub use headwise_kernels::{BlockLayout, HeadView};
pub use mmap::BlockHandle;
pub use pool::{BlockPool, block_layout, block_slots};
