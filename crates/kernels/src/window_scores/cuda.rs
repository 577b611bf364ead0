//! Window scores on a GPU: launches the two passes of kernel.cu.

use super::{GroupReduce, RowReduce, WindowScores};
use crate::gpu::{
    DeviceHead, DeviceLayout, DeviceMemory, Gpu, Heads, Launch, Module, Rows, chunks, codec_name, upload,
};
use bytemuck::{Pod, Zeroable};
use headwise_core::{Error, Indptr, Result};

/// Slots of a tile.
const TILE: usize = 128;
/// Slots that one CTA reduces over a group.
const CHUNK: usize = 1024;
/// Bytes of `ScoreShared` of kernel.cu.
const SHARED: usize = 4 * (128 * 36 + 32 * 36 + 128 + 2 * 32 + 4 * 128);

/// The observed queries of one layer: [`super::Window`] on a device.
pub struct Window<'a, M> {
    /// `[rows][query heads][head_dim]` in f32, after RoPE.
    pub queries: &'a M,
    /// Position of each row, ascending. `[rows]` in u32
    pub positions: &'a M,
    /// Rows.
    pub rows: usize,
    /// Query heads of the layer.
    pub query_heads: usize,
    /// Factor of `q · k`.
    pub scale: f32,
    /// All KV heads of the layer.
    pub heads: &'a Heads<M>,
    /// True positions of their slots, ascending in each head, head after head, in u32.
    pub slot_positions: &'a M,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Job {
    head: DeviceHead,
    positions: u64,
    out: u64,
    tiles: u32,
    first_tile: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Params {
    layout: DeviceLayout,
    scale: f32,
    jobs: u64,
    chunks: u64,
    q: u64,
    positions: u64,
    tiles: u64,
    fades: u64,
    totals: u64,
    out: u64,
    rows: u32,
    group: u32,
    query_heads: u32,
    reduce: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct GroupParams {
    input: u64,
    out: u64,
    starts: u64,
    chunks: u64,
    group: u32,
    reduce: u32,
    chunk_slots: u32,
}

/// Scores of all query heads, `group` rows a KV head: [`WindowScores::run`] of every head. Nothing waits for it; positions are not looked at.
///
/// # Errors
/// `ShapeMismatch` and `InvalidArgument` when an argument does not fit the contract; `OutOfMemory`.
pub fn window_scores<G: Gpu>(gpu: &G, kernel: WindowScores, window: &Window<'_, G::Memory>) -> Result<Rows<G::Memory>> {
    let (layout, lengths) = (window.heads.layout, &window.heads.lengths);
    let group = window.check()?;
    kernel.check()?;
    let (mut jobs, mut first_tile, mut slots) = (Vec::new(), 0, 0);
    for &head in &window.heads.heads {
        let tiles = head.len.div_ceil(TILE as u32);
        let positions = window.slot_positions.address() + 4 * slots as u64;
        jobs.push(Job { head, positions, out: (slots * group) as u64, tiles, first_tile });
        first_tile += tiles;
        slots += head.len as usize;
    }
    let chunks = chunks(lengths.iter().copied(), TILE);
    let out = Rows::empty(gpu, Indptr::from_lengths(lengths.iter().flat_map(|&len| (0..group).map(move |_| len))))?;
    let tiles = gpu.alloc(8 * (chunks.len() * group * window.rows).max(1))?;
    let totals = gpu.alloc(8 * window.query_heads * window.rows)?;
    let (job_list, chunk_list) = (upload(gpu, &jobs)?, upload(gpu, &chunks)?);
    let fades: Vec<f32> = (0..window.rows).map(|row| super::faded(kernel.fade, row, window.rows)).collect();
    let fades = upload(gpu, &fades)?;
    let params = Params {
        layout: DeviceLayout::new(layout)?,
        scale: window.scale,
        jobs: job_list.address(),
        chunks: chunk_list.address(),
        q: window.queries.address(),
        positions: window.positions.address(),
        tiles: tiles.address(),
        fades: fades.address(),
        totals: totals.address(),
        out: out.data.address(),
        rows: window.rows as u32,
        group: group as u32,
        query_heads: window.query_heads as u32,
        reduce: match kernel.rows {
            RowReduce::Mean => 0,
            RowReduce::Max => 1,
            RowReduce::L2 => 2,
            RowReduce::Sum => 3,
        },
    };
    let launch = |kernel: &str, ctas: usize, shared: usize| {
        let launch = Launch { module: Module::WindowScores, kernel, grid: [ctas, group], threads: 256, shared };
        // SAFETY: `Params` is the twin of that of kernel.cu; lists, statistics and the output were made above for just these heads, and `check` saw that
        // queries and positions are long enough.
        unsafe { gpu.launch(launch, &params) }
    };
    let codec = codec_name(layout.codec);
    launch(&format!("score_tiles_{codec}"), chunks.len(), SHARED)?;
    launch("score_totals", jobs.len(), 8 * 256)?;
    launch(&format!("score_slots_{codec}"), chunks.len(), SHARED)?;
    Ok(out)
}

/// One row a KV head from `group` rows of its length: [`super::group_reduce`] of every head, with the same bits. A NaN is not refused here, where nobody
/// waits; it stays one.
///
/// # Errors
/// `ShapeMismatch` where `scores` are not `group` rows of one length for each head; `OutOfMemory`.
pub fn group_reduce<G: Gpu>(
    gpu: &G,
    scores: &Rows<G::Memory>,
    group: usize,
    reduce: GroupReduce,
) -> Result<Rows<G::Memory>> {
    let lengths: Vec<usize> = scores.lengths().collect();
    let whole = group > 0 && lengths.len().is_multiple_of(group);
    if !whole || lengths.chunks(group).any(|rows| rows.iter().any(|&len| len != rows[0])) {
        return Err(Error::ShapeMismatch { what: "scores of a group".into(), expected: vec![group], got: lengths });
    }
    let out = Rows::empty(gpu, Indptr::from_lengths(lengths.chunks(group).map(|rows| rows[0])))?;
    let chunks = chunks(out.lengths(), CHUNK);
    let (starts, chunk_list) = (out.starts(gpu)?, upload(gpu, &chunks)?);
    let params = GroupParams {
        input: scores.data.address(),
        out: out.data.address(),
        starts: starts.address(),
        chunks: chunk_list.address(),
        group: group as u32,
        reduce: match reduce {
            GroupReduce::Mean => 0,
            GroupReduce::Max => 1,
            GroupReduce::Sum => 2,
        },
        chunk_slots: CHUNK as u32,
    };
    let grid = [chunks.len(), 1];
    let launch = Launch { module: Module::WindowScores, kernel: "group_reduce", grid, threads: 256, shared: 0 };
    // SAFETY: `GroupParams` is the twin of that of kernel.cu; `out` has one row for each `group` rows of `scores`, as seen above.
    unsafe { gpu.launch(launch, &params)? };
    Ok(out)
}

impl<M: DeviceMemory> Window<'_, M> {
    /// The query heads of a KV head.
    fn check(&self) -> Result<usize> {
        let kv_heads = self.heads.heads.len();
        if self.rows == 0 || self.rows > u32::MAX as usize {
            return Err(Error::invalid("window", self.rows, "at least one row"));
        }
        if kv_heads == 0 || self.query_heads == 0 || !self.query_heads.is_multiple_of(kv_heads) {
            return Err(Error::invalid(
                "query_heads",
                self.query_heads,
                "a multiple of the KV heads, of which there is at least one",
            ));
        }
        if !self.scale.is_finite() {
            return Err(Error::invalid("scale", self.scale, "a finite factor"));
        }
        let parts = [
            ("window queries", self.queries, self.rows * self.query_heads * self.heads.layout.head_dim),
            ("positions", self.positions, self.rows),
            ("slot positions", self.slot_positions, self.heads.lengths.iter().sum()),
        ];
        for (what, memory, numbers) in parts {
            if memory.len() < 4 * numbers {
                let got = vec![memory.len() / 4];
                return Err(Error::ShapeMismatch { what: what.into(), expected: vec![numbers], got });
            }
        }
        Ok(self.query_heads / kv_heads)
    }
}
