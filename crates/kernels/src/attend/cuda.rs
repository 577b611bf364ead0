//! Decode attention on a GPU: cuts heads into chunks, launches kernel.cu.

use crate::gpu::{DeviceHead, DeviceLayout, DeviceMemory, Gpu, Heads, Launch, Module, chunks, codec_name, upload};
use bytemuck::{Pod, Zeroable};
use headwise_core::{Error, Result};

/// Slots of a chunk: what one CTA reads. Fixed, so that a head's result does not depend on what else is launched.
const CHUNK: usize = 512;
/// Most numbers of a key or value: 32 lanes with eight each.
const MAX_DIM: usize = 256;

/// Queries of one layer of one session: those of [`super::Query`], on a device.
pub struct Query<'a, M> {
    /// `[rows][query heads][head_dim]` in f32, after RoPE.
    pub q: &'a M,
    /// Query rows; they belong to the last `rows` slots of every head.
    pub rows: usize,
    /// Query heads.
    pub query_heads: usize,
    /// The heads that they read; lengths may differ.
    pub heads: &'a Heads<M>,
    /// Per KV head one additive logit per slot, finite or -∞, in f32, head after head.
    pub bias: Option<&'a M>,
    /// Factor of `q · k`.
    pub scale: f32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Job {
    head: DeviceHead,
    bias: u64,
    query: u32,
    stride: u32,
    rows: u32,
    group: u32,
    chunks: u32,
    partial: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Params {
    layout: DeviceLayout,
    scale: f32,
    jobs: u64,
    chunks: u64,
    q: u64,
    sums: u64,
    tops: u64,
    out: u64,
    chunk_slots: u32,
}

/// `[rows][query heads][head_dim]` in f32: [`super::attend`] on a device. Nothing waits for it.
///
/// Meant for few rows: each reads the cache anew where more than eight query vectors share a KV head.
///
/// # Errors
/// `ShapeMismatch` and `InvalidArgument` when an argument does not fit the contract; `UnsupportedFeature` for a head_dim beyond 256; `OutOfMemory`.
pub fn attend<G: Gpu>(gpu: &G, query: &Query<'_, G::Memory>) -> Result<G::Memory> {
    let layout = query.heads.layout;
    let (dim, kv_heads) = (layout.head_dim, query.heads.heads.len());
    let group = query.check()?;
    let vectors = query.rows * group;
    let chunks = chunks(query.heads.lengths.iter().copied(), CHUNK);
    let (mut jobs, mut partial, mut bias_at) = (Vec::new(), 0usize, 0u64);
    for (index, &head) in query.heads.heads.iter().enumerate() {
        let count = (head.len as usize).div_ceil(CHUNK);
        jobs.push(Job {
            head,
            bias: query.bias.map_or(0, |bias| bias.address() + 4 * bias_at),
            query: (index * group) as u32,
            stride: query.query_heads as u32,
            rows: query.rows as u32,
            group: group as u32,
            chunks: count as u32,
            partial: partial as u32,
        });
        partial += count * vectors;
        bias_at += u64::from(head.len);
    }
    if partial > u32::MAX as usize {
        return Err(Error::invalid("rows", query.rows, "fewer: a launch joins at most 2^32 partial results"));
    }
    let out = gpu.alloc(4 * query.rows * query.query_heads * dim)?;
    let (sums, tops) = (gpu.alloc(4 * partial * dim)?, gpu.alloc(8 * partial)?);
    let (job_list, chunk_list) = (upload(gpu, &jobs)?, upload(gpu, &chunks)?);
    let params = Params {
        layout: DeviceLayout::new(layout)?,
        scale: query.scale,
        jobs: job_list.address(),
        chunks: chunk_list.address(),
        q: query.q.address(),
        sums: sums.address(),
        tops: tops.address(),
        out: out.address(),
        chunk_slots: CHUNK as u32,
    };
    let lanes = [8, 16, 32].into_iter().find(|lanes| dim <= 8 * lanes).unwrap_or(32);
    let queries = [1, 4, 8].into_iter().find(|&queries| vectors <= queries).unwrap_or(8);
    let kernel = format!("attend_{}_{lanes}_{queries}", codec_name(layout.codec));
    // Weights of a tile of 32 slots, later the sums of the rows, for each of four warps.
    let shared = 4 * 4 * queries * 32.max(dim + 2);
    let grid = [chunks.len(), vectors.div_ceil(queries)];
    // SAFETY: the structs are twins of those in kernel.cu; lists, partial results and the output were made above for just these jobs, and `check` saw
    // that the queries and the bias are long enough. Tables are kept by `heads`, their blocks by whoever made it.
    unsafe {
        gpu.launch(Launch { module: Module::Attend, kernel: &kernel, grid, threads: 128, shared }, &params)?;
        let threads = dim.next_multiple_of(32) as u32;
        let grid = [kv_heads, vectors];
        gpu.launch(Launch { module: Module::Attend, kernel: "attend_join", grid, threads, shared: 0 }, &params)?;
    }
    Ok(out)
}

impl<M: DeviceMemory> Query<'_, M> {
    /// The query heads of a KV head.
    fn check(&self) -> Result<usize> {
        let (dim, kv_heads) = (self.heads.layout.head_dim, self.heads.heads.len());
        if dim > MAX_DIM {
            return Err(Error::UnsupportedFeature { feature: "head_dim on a GPU".into(), value: dim.to_string() });
        }
        if kv_heads == 0 || self.query_heads == 0 || !self.query_heads.is_multiple_of(kv_heads) {
            let expected = "a multiple of the KV heads, of which there is at least one";
            return Err(Error::invalid("query_heads", self.query_heads, expected));
        }
        if !self.scale.is_finite() {
            return Err(Error::invalid("scale", self.scale, "a finite factor"));
        }
        let shortest = self.heads.lengths.iter().copied().min().unwrap_or(0);
        if self.rows == 0 || self.rows > shortest {
            return Err(Error::invalid("rows", self.rows, "at least one, at most the slots of every head"));
        }
        let long_enough = |what: &str, memory: &M, numbers: usize| match memory.len() >= 4 * numbers {
            true => Ok(()),
            false => {
                Err(Error::ShapeMismatch { what: what.into(), expected: vec![numbers], got: vec![memory.len() / 4] })
            }
        };
        long_enough("q", self.q, self.rows * self.query_heads * dim)?;
        if let Some(bias) = self.bias {
            long_enough("bias", bias, self.heads.lengths.iter().sum())?;
        }
        Ok(self.query_heads / kv_heads)
    }
}
