//! CUDA devices, through candle: [`Gpu`] on candle's stream, so that its tensors and our kernels are done in one order.

use super::{DeviceMemory, Gpu, Launch, Module};
use candle_core::cuda_backend::cudarc::driver::sys::{CUfunction_attribute, CUresult};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, DeviceRepr, DriverError, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDevice, cudarc::nvrtc::Ptx};
use headwise_core::{Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What a block may use of shared memory without asking, in bytes.
const SHARED: usize = 48 * 1024;

/// A CUDA device and candle's stream on it.
pub struct Cuda {
    stream: Arc<CudaStream>,
    loaded: Mutex<Loaded>,
}

/// What was loaded so far. Kernels keep their modules.
#[derive(Default)]
struct Loaded {
    modules: HashMap<Module, Arc<CudaModule>>,
    kernels: HashMap<(Module, String), CudaFunction>,
}

/// Memory of a CUDA device. It is freed in the order of the stream.
pub struct Memory {
    bytes: CudaSlice<u8>,
    address: u64,
}

/// The one argument of a kernel.
#[repr(transparent)]
struct Params<P>(P);

// SAFETY: `Gpu::launch` asks its caller for the twin of the kernel's struct.
unsafe impl<P: Copy> DeviceRepr for Params<P> {}

impl Cuda {
    /// The stream of a device of candle.
    pub fn new(device: &CudaDevice) -> Self {
        Self { stream: device.cuda_stream(), loaded: Mutex::default() }
    }

    /// A kernel, loaded when it is first asked for; `shared` bytes of shared memory are allowed from then on.
    fn kernel(&self, module: Module, name: &str, shared: usize) -> Result<CudaFunction> {
        let mut loaded = self.loaded.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let key = (module, name.to_string());
        if let Some(kernel) = loaded.kernels.get(&key) {
            return Ok(kernel.clone());
        }
        let image = match loaded.modules.get(&module) {
            Some(image) => image.clone(),
            None => {
                let image =
                    self.stream.context().load_module(Ptx::from_binary(module.image().to_vec())).map_err(failed)?;
                loaded.modules.insert(module, image.clone());
                image
            }
        };
        let kernel = image.load_function(name).map_err(failed)?;
        if shared > SHARED {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            kernel.set_attribute(attribute, shared as i32).map_err(failed)?;
        }
        loaded.kernels.insert(key, kernel.clone());
        Ok(kernel)
    }
}

impl Module {
    /// What nvcc made of it.
    fn image(self) -> &'static [u8] {
        match self {
            Self::Attend => include_bytes!(concat!(env!("OUT_DIR"), "/attend.fatbin")),
            Self::AttendColumns => include_bytes!(concat!(env!("OUT_DIR"), "/attend_columns.fatbin")),
            Self::AttendPrefill => include_bytes!(concat!(env!("OUT_DIR"), "/attend_prefill.fatbin")),
            Self::Compact => include_bytes!(concat!(env!("OUT_DIR"), "/compact.fatbin")),
            Self::Encode => include_bytes!(concat!(env!("OUT_DIR"), "/encode.fatbin")),
            Self::Pool1d => include_bytes!(concat!(env!("OUT_DIR"), "/pool1d.fatbin")),
            Self::TopkAcrossHeads => include_bytes!(concat!(env!("OUT_DIR"), "/topk_across_heads.fatbin")),
            Self::WindowScores => include_bytes!(concat!(env!("OUT_DIR"), "/window_scores.fatbin")),
        }
    }
}

impl DeviceMemory for Memory {
    fn address(&self) -> u64 {
        self.address
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Gpu for Cuda {
    type Memory = Memory;

    fn alloc(&self, bytes: usize) -> Result<Memory> {
        // SAFETY: bytes are anything; nobody reads them before something is written.
        let memory = unsafe { self.stream.alloc::<u8>(bytes.max(1)) };
        let bytes = memory.map_err(|error| match error.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory { bytes, reason: error.to_string() },
            _ => failed(error),
        })?;
        let address = bytes.device_ptr(&self.stream).0;
        Ok(Memory { bytes, address })
    }

    fn write(&self, to: &mut Memory, at: usize, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let range = range(at, bytes.len(), to.len())?;
        self.stream.memcpy_htod(bytes, &mut to.bytes.slice_mut(range)).map_err(failed)
    }

    fn read(&self, from: &Memory, at: usize, bytes: &mut [u8]) -> Result<()> {
        if !bytes.is_empty() {
            let range = range(at, bytes.len(), from.len())?;
            self.stream.memcpy_dtoh(&from.bytes.slice(range), bytes).map_err(failed)?;
        }
        self.stream.synchronize().map_err(failed)
    }

    unsafe fn launch<P: Copy + Send + Sync>(&self, launch: Launch<'_>, params: &P) -> Result<()> {
        let Launch { module, kernel, grid: [x, y], threads, shared } = launch;
        if x == 0 || y == 0 {
            return Ok(());
        }
        let narrow = |n: usize, most: u32| u32::try_from(n).ok().filter(|&n| n <= most);
        // What CUDA allows in each direction.
        let (Some(x), Some(y)) = (narrow(x, i32::MAX as u32), narrow(y, 65_535)) else {
            return Err(Error::invalid("grid", format!("{:?}", launch.grid), "at most 2^31 - 1 by 65,535 blocks"));
        };
        let function = self.kernel(module, kernel, shared)?;
        let config = LaunchConfig { grid_dim: (x, y, 1), block_dim: (threads, 1, 1), shared_mem_bytes: shared as u32 };
        let params = Params(*params);
        // SAFETY: the caller promises that `P` is the kernel's struct and that its addresses are those of memory that is long enough.
        unsafe { self.stream.launch_builder(&function).arg(&params).launch(config) }.map_err(failed)?;
        Ok(())
    }
}

fn range(at: usize, len: usize, of: usize) -> Result<std::ops::Range<usize>> {
    match at.checked_add(len).filter(|&end| end <= of) {
        Some(end) => Ok(at..end),
        None => Err(Error::invalid("at", at, "a range inside the memory")),
    }
}

fn failed(error: DriverError) -> Error {
    Error::Internal { reason: format!("CUDA: {error}") }
}
