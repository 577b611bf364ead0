//! Pooling on a GPU: launches kernel.cu.

use super::Pool1d;
use crate::gpu::{DeviceMemory, Gpu, Launch, Module, Rows, chunks, upload};
use headwise_core::Result;

/// Slots that one CTA of 256 threads pools.
const CHUNK: usize = 1024;

#[repr(C)]
#[derive(Clone, Copy)]
struct Params {
    input: u64,
    out: u64,
    starts: u64,
    chunks: u64,
    weights: u64,
    reach: u32,
    chunk_slots: u32,
}

/// [`Pool1d::run`] of every row, with the same bits. A NaN is not refused here, where nobody waits; it spreads as far as the pool reaches.
///
/// # Errors
/// `InvalidArgument` as [`Pool1d::run`]; `OutOfMemory`.
pub fn pool1d<G: Gpu>(gpu: &G, pool: Pool1d, scores: &Rows<G::Memory>) -> Result<Rows<G::Memory>> {
    pool.check()?;
    let (kernel, reach) = match pool {
        Pool1d::Average { kernel } => ("pool_average", kernel / 2),
        Pool1d::Max { kernel } => ("pool_max", kernel / 2),
        Pool1d::LookAhead { span, .. } => ("pool_look_ahead", span),
    };
    // Further than any row, so that it is a small number.
    let reach = reach.min(scores.lengths().max().unwrap_or(0));
    let weights: Vec<f32> = match pool {
        Pool1d::LookAhead { decay, .. } => super::weights(decay).take(reach).collect(),
        _ => Vec::new(),
    };
    let out = Rows::empty(gpu, scores.indptr().clone())?;
    let chunks = chunks(scores.lengths(), CHUNK);
    let (starts, chunk_list, weights) = (scores.starts(gpu)?, upload(gpu, &chunks)?, upload(gpu, &weights)?);
    let params = Params {
        input: scores.data.address(),
        out: out.data.address(),
        starts: starts.address(),
        chunks: chunk_list.address(),
        weights: weights.address(),
        reach: reach as u32,
        chunk_slots: CHUNK as u32,
    };
    let grid = [chunks.len(), 1];
    // SAFETY: `Params` is the twin of that of kernel.cu; `out` has the rows of `scores`, the lists were made for them.
    unsafe { gpu.launch(Launch { module: Module::Pool1d, kernel, grid, threads: 256, shared: 0 }, &params)? };
    Ok(out)
}
