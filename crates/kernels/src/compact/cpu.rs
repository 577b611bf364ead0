//! Compaction on the CPU: runs of consecutive survivors move with one copy for K and one for V.

use crate::BlockLayout;

/// See [`super::compact`]. The arguments must satisfy the contract.
pub fn compact(blocks: &mut [&mut [u8]], layout: BlockLayout, keep: &[u32]) {
    let mut target = 0;
    while target < keep.len() {
        let source = keep[target] as usize;
        // A run ends where the survivors do not follow each other, or where the source or the target block ends.
        let room = layout.slots - (source % layout.slots).max(target % layout.slots);
        let run =
            keep[target..].iter().take(room).enumerate().take_while(|&(i, &slot)| slot as usize == source + i).count();
        if source != target {
            move_rows(blocks, layout, source, target, run);
        }
        target += run;
    }
}

/// Moves `count` rows of K and of V, which lie in one block before and in one block after.
fn move_rows(blocks: &mut [&mut [u8]], layout: BlockLayout, source: usize, target: usize, count: usize) {
    let row = layout.row_bytes();
    let (from_block, to_block) = (source / layout.slots, target / layout.slots);
    for half in [0, layout.half_bytes()] {
        let from = half + source % layout.slots * row;
        let to = half + target % layout.slots * row;
        if from_block == to_block {
            blocks[from_block].copy_within(from..from + count * row, to);
        } else {
            let (before, after) = blocks.split_at_mut(from_block);
            before[to_block][to..][..count * row].copy_from_slice(&after[0][from..][..count * row]);
        }
    }
}
