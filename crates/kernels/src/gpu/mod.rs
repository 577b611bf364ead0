//! How kernels reach a GPU: memory, launches in order, nothing else. What a kernel does with it is in the `cuda.rs` beside its `.cu` file.
//!
//! [`Gpu`] is a trait so that the same launches and the same kernels run on a CUDA device (feature `cuda`, through candle) and, in the tests of
//! machines without one, in an emulator. Block tables, lengths and scores are built on the host where it knows them; nothing waits for the device
//! but [`Gpu::read`].

#[cfg(feature = "cuda")]
pub mod cuda;

use crate::BlockLayout;
use bytemuck::Pod;
use headwise_core::{Codec, Error, Indptr, Ragged, Result};

/// Memory of a device, given back when it is dropped and all that was launched before is done.
pub trait DeviceMemory {
    /// Where it begins, a multiple of 256.
    fn address(&self) -> u64;
    /// Bytes.
    fn len(&self) -> usize;
    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A device and one stream of work on it, done in order.
pub trait Gpu: Sync {
    /// Its memory.
    type Memory: DeviceMemory;

    /// `bytes` of memory with anything in it.
    ///
    /// # Errors
    /// `OutOfMemory`; what was there before lives on.
    fn alloc(&self, bytes: usize) -> Result<Self::Memory>;

    /// Copies `bytes` to `to` from byte `at` on.
    ///
    /// # Errors
    /// `InvalidArgument` where they do not fit in, `Internal` when the device refuses.
    fn write(&self, to: &mut Self::Memory, at: usize, bytes: &[u8]) -> Result<()>;

    /// Waits for all that was launched, then copies from byte `at` of `from`.
    ///
    /// # Errors
    /// As [`write`](Self::write); a kernel that failed is an `Internal` error here.
    fn read(&self, from: &Self::Memory, at: usize, bytes: &mut [u8]) -> Result<()>;

    /// Puts a kernel in line. `params` is the one struct that it takes.
    ///
    /// # Errors
    /// `Internal` for an unknown kernel or a launch that the device refuses.
    ///
    /// # Safety
    /// `P` must be the twin of the kernel's struct, and every address in it that of memory that is long enough and is not dropped before the launch
    /// is in line.
    unsafe fn launch<P: Copy + Send + Sync>(&self, launch: Launch<'_>, params: &P) -> Result<()>;
}

/// Which kernel, and on how many threads.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// The file that the kernel is in.
    pub module: Module,
    /// Its entry point.
    pub kernel: &'a str,
    /// Blocks of threads in x and y. None in either: nothing is launched.
    pub grid: [usize; 2],
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block in bytes.
    pub shared: usize,
}

/// The `.cu` files, which are loaded one by one: `kernel.cu` of the folder, or its other file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Module {
    Attend,
    AttendColumns,
    AttendPrefill,
    Compact,
    Encode,
    Pool1d,
    TopkAcrossHeads,
    WindowScores,
}

/// Twin of `Layout` in device.cuh.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceLayout {
    head_dim: u32,
    slots: u32,
    row_bytes: u32,
    half_bytes: u32,
    shift: u32,
}

impl DeviceLayout {
    /// # Errors
    /// `InvalidArgument` for a layout without slots or of more bytes than 32 bits count.
    pub(crate) fn new(layout: BlockLayout) -> Result<Self> {
        let invalid = || Error::invalid("layout", format!("{layout:?}"), "positive sizes, blocks below 4 GiB");
        if layout.slots == 0 || layout.head_dim == 0 || layout.codec.row_bytes(layout.head_dim) > u32::MAX as usize {
            return Err(invalid());
        }
        let narrow = |n: usize| u32::try_from(n).map_err(|_| invalid());
        let half_bytes = narrow(layout.row_bytes().checked_mul(layout.slots).ok_or_else(invalid)?)?;
        let shift = if layout.slots.is_power_of_two() { layout.slots.trailing_zeros() } else { 32 };
        let (head_dim, slots, row_bytes) =
            (narrow(layout.head_dim)?, narrow(layout.slots)?, narrow(layout.row_bytes())?);
        Ok(Self { head_dim, slots, row_bytes, half_bytes, shift })
    }
}

/// The name of a codec in the names of kernels.
pub(crate) fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::F32 => "F32",
        Codec::Bf16 => "Bf16",
        Codec::F16 => "F16",
        Codec::Int8 => "Int8",
    }
}

/// Twin of `Head` in device.cuh.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct DeviceHead {
    pub blocks: u64,
    pub len: u32,
    pub unused: u32,
}

/// Twin of `Chunk` in device.cuh.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct DeviceChunk {
    pub row: u32,
    pub index: u32,
}

/// The chunks of `size` that rows of these lengths are cut into.
pub(crate) fn chunks(lengths: impl IntoIterator<Item = usize>, size: usize) -> Vec<DeviceChunk> {
    let of = |(row, len): (u32, usize)| (0..len.div_ceil(size) as u32).map(move |index| DeviceChunk { row, index });
    (0..).zip(lengths).flat_map(of).collect()
}

/// `Ragged<f32>` on a device: scores of heads of different lengths.
pub struct Rows<M> {
    pub(crate) data: M,
    pub(crate) indptr: Indptr,
}

impl<M: DeviceMemory> Rows<M> {
    /// Uploads rows.
    ///
    /// # Errors
    /// As [`upload`].
    pub fn new<G: Gpu<Memory = M>>(gpu: &G, rows: &Ragged<f32>) -> Result<Self> {
        Ok(Self { data: upload(gpu, rows.data())?, indptr: rows.indptr().clone() })
    }

    /// Waits for them.
    ///
    /// # Errors
    /// As [`download`].
    pub fn download<G: Gpu<Memory = M>>(&self, gpu: &G) -> Result<Ragged<f32>> {
        Ragged::new(self.indptr.clone(), download(gpu, &self.data, self.indptr.total())?)
    }

    /// Row starts.
    pub fn indptr(&self) -> &Indptr {
        &self.indptr
    }

    /// Rows of these lengths with anything in them.
    pub(crate) fn empty<G: Gpu<Memory = M>>(gpu: &G, indptr: Indptr) -> Result<Self> {
        Ok(Self { data: gpu.alloc(4 * indptr.total().max(1))?, indptr })
    }

    pub(crate) fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.indptr.rows()).map(|row| self.indptr.length(row))
    }

    pub(crate) fn starts<G: Gpu<Memory = M>>(&self, gpu: &G) -> Result<M> {
        upload(gpu, &self.indptr.starts().iter().map(|&start| start as u64).collect::<Vec<_>>())
    }
}

/// The block tables of some KV heads on a device. The blocks themselves belong to somebody else, who keeps them.
pub struct Heads<M> {
    pub(crate) layout: BlockLayout,
    pub(crate) lengths: Vec<usize>,
    pub(crate) heads: Vec<DeviceHead>,
    /// Holds the tables that `heads` point to.
    _tables: M,
}

impl<M: DeviceMemory> Heads<M> {
    /// Uploads the tables of heads: the filled slots of each and the addresses of its blocks.
    ///
    /// # Errors
    /// `ShapeMismatch` where the blocks are too few; `InvalidArgument` for blocks at addresses that are not multiples of 16, where they should be.
    ///
    /// # Safety
    /// Every address must be that of [`BlockLayout::bytes`] of memory of `gpu`, which is kept while these tables are in use; no block in it twice.
    pub unsafe fn new<G: Gpu<Memory = M>>(gpu: &G, layout: BlockLayout, heads: &[(usize, &[u64])]) -> Result<Self> {
        DeviceLayout::new(layout)?;
        let mut all: Vec<u64> = Vec::new();
        for &(len, blocks) in heads {
            let needed = layout.blocks_for(len);
            if blocks.len() < needed || len > i32::MAX as usize {
                return Err(Error::ShapeMismatch {
                    what: "block table".into(),
                    expected: vec![needed],
                    got: vec![blocks.len()],
                });
            }
            all.extend(&blocks[..needed]);
        }
        if let Some(address) = all.iter().find(|address| !address.is_multiple_of(16)) {
            return Err(Error::invalid("block", address, "an address that is a multiple of 16"));
        }
        let tables = upload(gpu, &all)?;
        let mut at = tables.address();
        let heads: Vec<(usize, DeviceHead)> = heads
            .iter()
            .map(|&(len, _)| {
                let head = DeviceHead { blocks: at, len: len as u32, unused: 0 };
                at += 8 * layout.blocks_for(len) as u64;
                (len, head)
            })
            .collect();
        let (lengths, heads) = heads.into_iter().unzip();
        Ok(Self { layout, lengths, heads, _tables: tables })
    }
}

/// New memory with `values` in it; never empty, so that its address is one.
///
/// # Errors
/// As [`Gpu::alloc`] and [`Gpu::write`].
pub fn upload<G: Gpu, T: Pod>(gpu: &G, values: &[T]) -> Result<G::Memory> {
    let bytes: &[u8] = bytemuck::cast_slice(values);
    let mut memory = gpu.alloc(bytes.len().max(1))?;
    gpu.write(&mut memory, 0, bytes)?;
    Ok(memory)
}

/// The first `count` values of `memory`.
///
/// # Errors
/// As [`Gpu::read`].
pub fn download<G: Gpu, T: Pod>(gpu: &G, memory: &G::Memory, count: usize) -> Result<Vec<T>> {
    let mut values = vec![T::zeroed(); count];
    gpu.read(memory, 0, bytemuck::cast_slice_mut(&mut values))?;
    Ok(values)
}
