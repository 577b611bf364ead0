//! Top-k across heads on a GPU: launches the passes of kernel.cu.

use crate::gpu::{DeviceMemory, Gpu, Launch, Module, Rows, chunks, download, upload};
use bytemuck::{Pod, Zeroable};
use headwise_core::{Error, Indptr, Ragged, Result, Selection};

/// Slots that one CTA looks at.
const CHUNK: usize = 4096;
const THREADS: u32 = 256;
const DIGITS: usize = 256;
const PASSES: usize = 8;

/// The slots that were kept of some heads, on a device.
pub struct Kept<M> {
    /// Head after head, ascending in each.
    pub(crate) slots: M,
    pub(crate) counts: Vec<usize>,
    /// Slots that the heads had.
    pub(crate) lengths: Vec<usize>,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct State {
    last: u64,
    remaining: u32,
    whole: u32,
    nan: u32,
    unused: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Params {
    scores: u64,
    starts: u64,
    chunks: u64,
    state: u64,
    histograms: u64,
    tied: u64,
    offsets: u64,
    counts: u64,
    kept: u64,
    rows: u32,
    chunk_count: u32,
    chunk_slots: u32,
    pass: u32,
}

/// The `k` highest of `scores` over all heads, of one layer or of many: [`super::topk_across_heads`] on a device. Waits for the counts of the heads, by
/// which blocks are freed; the slots stay there.
///
/// # Errors
/// As [`super::topk_across_heads`], and `OutOfMemory`.
pub fn topk_across_heads<G: Gpu>(gpu: &G, scores: &Rows<G::Memory>, k: usize) -> Result<Kept<G::Memory>> {
    let (rows, total) = (scores.indptr().rows(), scores.indptr().total());
    if k > total || total > u32::MAX as usize {
        return Err(Error::invalid("k", k, "at most the number of scores"));
    }
    let chunks = chunks(scores.lengths(), CHUNK);
    let slots = gpu.alloc(4 * k.max(1))?;
    // With nothing to keep, everything up to a key that no score has.
    let state = State { last: 0, remaining: k as u32, whole: 0, nan: u32::MAX, unused: 0 };
    let (state, counts) = (upload(gpu, &[state])?, upload(gpu, &vec![0u32; rows])?);
    let histograms = upload(gpu, &[0u32; PASSES * DIGITS])?;
    let (tied, offsets) = (upload(gpu, &vec![0u32; rows])?, upload(gpu, &vec![0u32; chunks.len()])?);
    let (starts, chunk_list) = (scores.starts(gpu)?, upload(gpu, &chunks)?);
    let mut params = Params {
        scores: scores.data.address(),
        starts: starts.address(),
        chunks: chunk_list.address(),
        state: state.address(),
        histograms: histograms.address(),
        tied: tied.address(),
        offsets: offsets.address(),
        counts: counts.address(),
        kept: slots.address(),
        rows: rows as u32,
        chunk_count: chunks.len() as u32,
        chunk_slots: CHUNK as u32,
        pass: 0,
    };
    let launch = |kernel: &str, ctas: usize, params: &Params| {
        let shared = 4 * THREADS.max(DIGITS as u32) as usize;
        let launch = Launch { module: Module::TopkAcrossHeads, kernel, grid: [ctas, 1], threads: THREADS, shared };
        // SAFETY: `Params` is the twin of that of kernel.cu; all lists were made above for these rows, and no more than `k` slots are written.
        unsafe { gpu.launch(launch, params) }
    };
    for pass in 0..PASSES {
        params.pass = pass as u32;
        launch("topk_histogram", chunks.len(), &params)?;
        launch("topk_digit", 1, &params)?;
    }
    launch("topk_tied", 1, &params)?;
    launch("topk_count", chunks.len(), &params)?;
    launch("topk_offsets", 1, &params)?;
    launch("topk_write", chunks.len(), &params)?;
    let state: Vec<State> = download(gpu, &state, 1)?;
    if let Some(State { nan, .. }) = state.first().filter(|state| state.nan != u32::MAX) {
        return Err(Error::NotANumber { what: "scores".into(), index: *nan as usize });
    }
    let counts: Vec<u32> = download(gpu, &counts, rows)?;
    Ok(Kept {
        slots,
        counts: counts.into_iter().map(|count| count as usize).collect(),
        lengths: scores.lengths().collect(),
    })
}

impl<M: DeviceMemory> Kept<M> {
    /// Kept slots of every head.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// Waits for the slots themselves.
    ///
    /// # Errors
    /// As [`download`].
    pub fn download<G: Gpu<Memory = M>>(&self, gpu: &G) -> Result<Selection> {
        let indptr = Indptr::from_lengths(self.counts.iter().copied());
        let slots = download(gpu, &self.slots, indptr.total())?;
        Selection::new(Ragged::new(indptr, slots)?, &self.lengths)
    }

    /// A choice that was made on the host.
    ///
    /// # Errors
    /// `InvalidSelection` where `kept` is no choice among heads of these lengths; as [`upload`].
    pub fn new<G: Gpu<Memory = M>>(gpu: &G, kept: Ragged<u32>, lengths: &[usize]) -> Result<Self> {
        let kept = Selection::new(kept, lengths)?;
        let slots: Vec<u32> = (0..kept.heads()).flat_map(|head| kept.head(head)).copied().collect();
        let counts = (0..kept.heads()).map(|head| kept.head(head).len()).collect();
        Ok(Self { slots: upload(gpu, &slots)?, counts, lengths: lengths.to_vec() })
    }
}
