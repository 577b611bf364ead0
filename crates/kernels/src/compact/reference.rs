//! Compaction by copying everything out first.

use crate::BlockLayout;

/// What the slots `0 .. keep.len()` hold afterwards: K row and V row of each.
pub fn compact(blocks: &[&[u8]], layout: BlockLayout, keep: &[u32]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let row = layout.row_bytes();
    keep.iter()
        .map(|&slot| {
            let (block, at) = (blocks[slot as usize / layout.slots], slot as usize % layout.slots * row);
            (block[at..at + row].to_vec(), block[layout.half_bytes() + at..][..row].to_vec())
        })
        .collect()
}
