//! Encoding on a GPU: launches kernel.cu.

use crate::gpu::{DeviceLayout, DeviceMemory, Gpu, Heads, Launch, Module, codec_name, upload};
use headwise_core::{Error, Result};

#[repr(C)]
#[derive(Clone, Copy)]
struct Params {
    layout: DeviceLayout,
    heads: u64,
    keys: u64,
    values: u64,
    rows: u32,
    kv_heads: u32,
}

/// Writes `keys` and `values`, `[rows][kv heads][head_dim]` in f32, into the last `rows` slots of all heads, with the bits of [`super::encode`].
///
/// # Errors
/// `InvalidArgument` for more rows than a head has slots; `ShapeMismatch` for too few numbers; `OutOfMemory`.
pub fn encode<G: Gpu>(
    gpu: &G,
    heads: &mut Heads<G::Memory>,
    rows: usize,
    keys: &G::Memory,
    values: &G::Memory,
) -> Result<()> {
    let kv_heads = heads.heads.len();
    if rows > heads.lengths.iter().copied().min().unwrap_or(0) {
        return Err(Error::invalid("rows", rows, "at most the slots of every head"));
    }
    let numbers = rows * kv_heads * heads.layout.head_dim;
    for (what, memory) in [("keys", keys), ("values", values)] {
        if memory.len() < 4 * numbers {
            return Err(Error::ShapeMismatch {
                what: what.into(),
                expected: vec![numbers],
                got: vec![memory.len() / 4],
            });
        }
    }
    let list = upload(gpu, &heads.heads)?;
    let params = Params {
        layout: DeviceLayout::new(heads.layout)?,
        heads: list.address(),
        keys: keys.address(),
        values: values.address(),
        rows: rows as u32,
        kv_heads: kv_heads as u32,
    };
    let kernel = format!("encode_{}", codec_name(heads.layout.codec));
    // Four warps, a row each; keys, then values.
    let grid = [(rows * kv_heads).div_ceil(4), 2];
    // SAFETY: `Params` is the twin of that of kernel.cu; the numbers are as many as it reads and the slots are in the heads' blocks, both seen above.
    unsafe { gpu.launch(Launch { module: Module::Encode, kernel: &kernel, grid, threads: 128, shared: 0 }, &params) }
}
