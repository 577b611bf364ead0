//! Attention on a GPU: cuts heads into chunks, launches kernel.cu for few rows and prefill.cu for more, and columns.cu where columns are asked for.

use super::{ColumnReduce, DECODE_ROWS};
use crate::gpu::{DeviceHead, DeviceLayout, DeviceMemory, Gpu, Heads, Launch, Module, chunks, codec_name, upload};
use bytemuck::{Pod, Zeroable};
use headwise_core::{Error, Result};

/// Slots of a chunk of the decode way: what one CTA reads. Fixed, so that a head's result does not depend on what else is launched.
const CHUNK: usize = 512;
/// The same of the prefill way. Longer, since each chunk of each query vector has a result of its own until they are joined.
const SPAN: usize = 1024;
/// Query vectors of a CTA of the prefill way.
const TILE: usize = 64;
/// CTAs of the prefill way that are launched together: several for each multiprocessor, and a bound for the results that wait to be joined
/// (34 MB for a head_dim of 128).
const CTAS: usize = 1024;
/// Slots of a CTA that makes columns.
const COLUMN_SLOTS: usize = 128;
/// Most numbers of a key or value: 32 lanes with eight each, 16 threads with 16 each.
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

/// What each slot gets of the weights of a query's rows: [`super::Columns`] on a device.
pub struct Columns<'a, M> {
    /// How the rows are reduced.
    pub reduce: ColumnReduce,
    /// What is added to, or raised: per query head one f32 for each slot of its KV head, head after head (lengths may differ).
    ///
    /// The order of additions is fixed; a prompt cut in another way gives the same numbers but for rounding. NaN in q or K gives NaN in the sums of that
    /// KV head; a maximum may pass it over.
    pub out: &'a mut M,
    /// What the weights of each row are multiplied with, not negative, `[rows]` in f32; 1 where not given.
    pub factors: Option<&'a M>,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Job {
    head: DeviceHead,
    bias: u64,
    columns: u64,
    query: u32,
    stride: u32,
    rows: u32,
    group: u32,
    first_chunk: u32,
    unused: u32,
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
    totals: u64,
    out: u64,
    columns: u64,
    factors: u64,
    chunk_slots: u32,
    first: u32,
    vectors: u32,
    heads: u32,
    reduce: u32,
}

/// How the chunks of a query are computed: by the module's kernel of this name, in CTAs of `tile` query vectors.
struct Way {
    module: Module,
    kernel: String,
    chunk: usize,
    tile: usize,
    shared: usize,
}

/// `[rows][query heads][head_dim]` in f32: [`super::attend`] on a device, with the same bits whether or not `columns` are asked for. Nothing waits for it.
///
/// Few rows ([`DECODE_ROWS`] at most) go the decode way: split over slots, and eight query vectors of a KV head at a time, each time reading the cache
/// anew. More go the prefill way: tiles of 64 query vectors read it, products are f32 FMA, and a row's result is bit-identical however the prompt was cut.
/// Columns are a pass over the keys after that.
///
/// # Errors
/// `ShapeMismatch` and `InvalidArgument` when an argument does not fit the contract, the latter also for more than 2^31 query vectors or 2^32 results
/// before they are joined; `UnsupportedFeature` for a head_dim beyond 256; `OutOfMemory`.
pub fn attend<G: Gpu>(
    gpu: &G,
    query: &Query<'_, G::Memory>,
    columns: Option<Columns<'_, G::Memory>>,
) -> Result<G::Memory> {
    let group = query.check()?;
    if let Some(columns) = &columns {
        columns.check(query, group)?;
    }
    let (dim, vectors) = (query.heads.layout.head_dim, query.rows * group);
    let way = query.way(vectors);
    let chunks = chunks(query.heads.lengths.iter().copied(), way.chunk);
    // The vectors that are launched together. Which these are shows in no result.
    let together = if query.rows <= DECODE_ROWS { vectors } else { vectors.min(TILE * CTAS.div_ceil(chunks.len())) };
    let partial = chunks.len().saturating_mul(together);
    if partial > u32::MAX as usize {
        return Err(Error::invalid("rows", query.rows, "fewer: a launch joins at most 2^32 partial results"));
    }
    let jobs = upload(gpu, &query.jobs(group, way.chunk))?;
    let chunk_list = upload(gpu, &chunks)?;
    let out = gpu.alloc(4 * query.rows * query.query_heads * dim)?;
    let totals = gpu.alloc(8 * query.rows * query.query_heads)?;
    let (sums, tops) = (gpu.alloc(4 * partial * dim)?, gpu.alloc(8 * partial)?);
    let mut params = Params {
        layout: DeviceLayout::new(query.heads.layout)?,
        scale: query.scale,
        jobs: jobs.address(),
        chunks: chunk_list.address(),
        q: query.q.address(),
        sums: sums.address(),
        tops: tops.address(),
        totals: totals.address(),
        out: out.address(),
        columns: 0,
        factors: 0,
        chunk_slots: way.chunk as u32,
        first: 0,
        vectors: 0,
        heads: 0,
        reduce: 0,
    };
    for first in (0..vectors).step_by(together) {
        let count = together.min(vectors - first);
        (params.first, params.vectors) = (first as u32, count as u32);
        let Way { module, ref kernel, tile, shared, .. } = way;
        let grid = [chunks.len(), count.div_ceil(tile)];
        let join = [count, query.heads.heads.len()];
        let threads = dim.next_multiple_of(32) as u32;
        // SAFETY: the structs are twins of those in attend.cuh; lists, partial results and the output were made above for just these jobs, and `check`
        // saw that the queries and the bias are long enough. Tables are kept by `heads`, their blocks by whoever made it.
        unsafe {
            gpu.launch(Launch { module, kernel, grid, threads: 128, shared }, &params)?;
            let launch = Launch { module: Module::Attend, kernel: "attend_join", grid: join, threads, shared: 0 };
            gpu.launch(launch, &params)?;
        }
    }
    if let Some(columns) = columns {
        columns.launch(gpu, query, group, params)?;
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
        if self.rows.saturating_mul(self.query_heads) > i32::MAX as usize {
            return Err(Error::invalid("rows", self.rows, "fewer: a launch takes less than 2^31 query vectors"));
        }
        long_enough("q", self.q, self.rows * self.query_heads * dim)?;
        if let Some(bias) = self.bias {
            long_enough("bias", bias, self.heads.lengths.iter().sum())?;
        }
        Ok(self.query_heads / kv_heads)
    }

    fn way(&self, vectors: usize) -> Way {
        let layout = self.heads.layout;
        let (codec, dim) = (codec_name(layout.codec), layout.head_dim);
        if self.rows <= DECODE_ROWS {
            let lanes = [8, 16, 32].into_iter().find(|lanes| dim <= 8 * lanes).unwrap_or(32);
            let tile = [1, 4, 8].into_iter().find(|&queries| vectors <= queries).unwrap_or(8);
            let kernel = format!("attend_{codec}_{lanes}_{tile}");
            // Weights of a tile of 32 slots, later the sums of the rows, for each of four warps.
            return Way { module: Module::Attend, kernel, chunk: CHUNK, tile, shared: 16 * tile * 32.max(dim + 2) };
        }
        let dims = [64, 128, 256].into_iter().find(|&dims| dim <= dims).unwrap_or(MAX_DIM);
        let slots = if dims > 128 { 64 } else { 128 };
        // Pieces of queries and keys are not longer than weights and 2,048 numbers of values.
        let shared = tile_bytes(TILE, slots).max(4 * (2 * TILE + TILE * (slots + 4) + 2048));
        Way {
            module: Module::AttendPrefill,
            kernel: format!("prefill_{codec}_{dims}"),
            chunk: SPAN,
            tile: TILE,
            shared,
        }
    }

    /// Its KV heads, cut into chunks of `chunk` slots.
    fn jobs(&self, group: usize, chunk: usize) -> Vec<Job> {
        let (mut slots, mut first_chunk) = (0u64, 0u32);
        let job = |(index, &head): (usize, &DeviceHead)| {
            let job = Job {
                head,
                bias: self.bias.map_or(0, |bias| bias.address() + 4 * slots),
                columns: group as u64 * slots,
                query: (index * group) as u32,
                stride: self.query_heads as u32,
                rows: self.rows as u32,
                group: group as u32,
                first_chunk,
                unused: 0,
            };
            slots += u64::from(head.len);
            first_chunk += head.len.div_ceil(chunk as u32);
            job
        };
        self.heads.heads.iter().enumerate().map(job).collect()
    }
}

impl<M: DeviceMemory> Columns<'_, M> {
    fn check(&self, query: &Query<'_, M>, group: usize) -> Result<()> {
        long_enough("columns", self.out, query.heads.lengths.iter().map(|len| group * len).sum())?;
        self.factors.map_or(Ok(()), |factors| long_enough("factors of rows", factors, query.rows))
    }

    /// Adds the columns of a query whose maxima and denominators are in the `totals` of `params`.
    fn launch<G: Gpu<Memory = M>>(self, gpu: &G, query: &Query<'_, M>, group: usize, params: Params) -> Result<()> {
        let chunks = chunks(query.heads.lengths.iter().copied(), COLUMN_SLOTS);
        let chunk_list = upload(gpu, &chunks)?;
        // Few rows: those of the whole group side by side, so that the keys are read once. A tile of more rows is full with those of one query head.
        let heads = if query.rows <= DECODE_ROWS { group } else { 1 };
        let vectors = if query.rows * heads <= 8 { 8 } else { TILE };
        let params = Params {
            chunks: chunk_list.address(),
            columns: self.out.address(),
            factors: self.factors.map_or(0, DeviceMemory::address),
            chunk_slots: COLUMN_SLOTS as u32,
            heads: heads as u32,
            reduce: match self.reduce {
                ColumnReduce::Sum => 0,
                ColumnReduce::Max => 1,
            },
            ..params
        };
        let kernel = format!("columns_{}_{vectors}", codec_name(query.heads.layout.codec));
        let (grid, shared) = ([chunks.len(), group / heads], tile_bytes(vectors, COLUMN_SLOTS));
        let launch = Launch { module: Module::AttendColumns, kernel: &kernel, grid, threads: 128, shared };
        // SAFETY: as in `attend`; `check` saw that the columns and the factors are long enough.
        unsafe { gpu.launch(launch, &params) }
    }
}

/// Shared memory of an `AttendTile` of attend.cuh: its tables, then pieces of queries and keys, where weights lie later.
fn tile_bytes(vectors: usize, slots: usize) -> usize {
    4 * (2 * vectors + ((vectors + slots) * 36).max(vectors * (slots + 4)))
}

fn long_enough<M: DeviceMemory>(what: &str, memory: &M, numbers: usize) -> Result<()> {
    match memory.len() / 4 >= numbers {
        true => Ok(()),
        false => Err(Error::ShapeMismatch { what: what.into(), expected: vec![numbers], got: vec![memory.len() / 4] }),
    }
}
