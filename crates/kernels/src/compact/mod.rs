//! Moves the surviving slots of one head forward, in place. Sources ascend and never lie before their targets, so nothing is
//! overwritten before it is read.

pub mod cpu;
pub mod cuda;
pub mod reference;

use crate::BlockLayout;
use headwise_core::{Error, Result};

/// Moves slot `keep[i]` (K and V row) to slot `i`. `blocks` is the head's block table, each [`BlockLayout::bytes`] long; `keep`
/// is ascending and unique. What lies after the last survivor is left as it is.
///
/// # Errors
/// `InvalidSelection` (head 0) when `keep` is not ascending or points past the blocks; `ShapeMismatch` for a short block.
pub fn compact(blocks: &mut [&mut [u8]], layout: BlockLayout, keep: &[u32]) -> Result<()> {
    let slots = blocks.len().saturating_mul(layout.slots);
    for (index, &slot) in keep.iter().enumerate() {
        if slot as usize >= slots || (index > 0 && keep[index - 1] >= slot) {
            return Err(Error::InvalidSelection { head: 0, index });
        }
    }
    if let Some(block) = blocks.iter().find(|block| block.len() < layout.bytes()) {
        return Err(Error::ShapeMismatch {
            what: "block bytes".into(),
            expected: vec![layout.bytes()],
            got: vec![block.len()],
        });
    }
    cpu::compact(blocks, layout, keep);
    Ok(())
}
