//! Compaction on a GPU: launches kernel.cu.

use crate::gpu::{DeviceHead, DeviceLayout, DeviceMemory, Gpu, Heads, Launch, Module, upload};
use crate::topk_across_heads::cuda::Kept;
use bytemuck::{Pod, Zeroable};
use headwise_core::{Error, Result};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Job {
    head: DeviceHead,
    keep: u64,
    count: u32,
    unused: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Params {
    layout: DeviceLayout,
    jobs: u64,
}

/// Moves the kept slots of all heads to their front: [`super::compact`] on a device. Nothing waits for it. The lengths of `heads` are the new ones
/// afterwards; which blocks that leaves free, the counts of `kept` say.
///
/// # Errors
/// `ShapeMismatch` where `kept` is not a choice among these heads' slots; `OutOfMemory`. Nothing has moved then.
pub fn compact<G: Gpu>(gpu: &G, heads: &mut Heads<G::Memory>, kept: &Kept<G::Memory>) -> Result<()> {
    if kept.lengths != heads.lengths {
        return Err(Error::ShapeMismatch {
            what: "slots of heads".into(),
            expected: heads.lengths.clone(),
            got: kept.lengths.clone(),
        });
    }
    let mut at = kept.slots.address();
    let mut jobs = Vec::new();
    for (&head, &count) in heads.heads.iter().zip(&kept.counts) {
        jobs.push(Job { head, keep: at, count: count as u32, unused: 0 });
        at += 4 * count as u64;
    }
    let list = upload(gpu, &jobs)?;
    let params = Params { layout: DeviceLayout::new(heads.layout)?, jobs: list.address() };
    // Rows lie at multiples of their length, blocks at those of 16.
    let unit = [16, 4, 2].into_iter().find(|&unit| heads.layout.row_bytes().is_multiple_of(unit)).unwrap_or(1);
    let kernel = format!("compact_{unit}");
    let grid = [jobs.len(), 2];
    // SAFETY: `Params` is the twin of that of kernel.cu; kept slots are ascending and within the lengths of the heads, which the selection saw to.
    unsafe { gpu.launch(Launch { module: Module::Compact, kernel: &kernel, grid, threads: 256, shared: 0 }, &params)? };
    for ((head, len), &count) in heads.heads.iter_mut().zip(&mut heads.lengths).zip(&kept.counts) {
        (head.len, *len) = (count as u32, count);
    }
    Ok(())
}
