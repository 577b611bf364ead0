//! The emulator as a [`Gpu`]: CUDA kernels on the CPU, with the launches that a device gets.

use headwise_core::{Error, Result};
use headwise_kernels::gpu::{DeviceMemory, Gpu, Launch};
use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::sync::Mutex;

unsafe extern "C" {
    fn headwise_emulate(
        name: *const c_char,
        grid: *const c_uint,
        threads: c_uint,
        shared: usize,
        params: *const c_void,
        seed: u64,
    ) -> c_int;
}

/// The emulator has one set of fibers.
static RUNNING: Mutex<()> = Mutex::new(());

/// The kernels on the CPU. Threads of a block take turns in an order drawn from `seed`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Emulator {
    /// Another seed, another order.
    pub seed: u64,
}

/// Memory of the emulator: that of the process, NaN at first.
#[derive(Debug)]
pub struct Memory {
    lines: Vec<UnsafeCell<Line>>,
    len: usize,
}

#[derive(Debug)]
#[repr(align(256))]
struct Line {
    _bytes: [u8; 256],
}

impl DeviceMemory for Memory {
    fn address(&self) -> u64 {
        self.lines.as_ptr() as u64
    }

    fn len(&self) -> usize {
        self.len
    }
}

impl Memory {
    fn range(&self, at: usize, len: usize) -> Result<*mut u8> {
        match at.checked_add(len).is_some_and(|end| end <= self.len) {
            true => Ok((self.address() as usize + at) as *mut u8),
            false => Err(Error::invalid("at", at, "a range inside the memory")),
        }
    }
}

impl Gpu for Emulator {
    type Memory = Memory;

    fn alloc(&self, bytes: usize) -> Result<Memory> {
        let lines = (0..bytes.div_ceil(256).max(1)).map(|_| UnsafeCell::new(Line { _bytes: [0xff; 256] }));
        Ok(Memory { lines: lines.collect(), len: bytes })
    }

    fn write(&self, to: &mut Memory, at: usize, bytes: &[u8]) -> Result<()> {
        let to = to.range(at, bytes.len())?;
        // SAFETY: the range is inside the memory, which is borrowed for writing.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn read(&self, from: &Memory, at: usize, bytes: &mut [u8]) -> Result<()> {
        let from = from.range(at, bytes.len())?;
        // SAFETY: the range is inside the memory; every launch has ended when it returns.
        unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    unsafe fn launch<P: Copy + Send + Sync>(&self, launch: Launch<'_>, params: &P) -> Result<()> {
        let name = CString::new(launch.kernel).map_err(|_| Error::invalid("kernel", launch.kernel, "a name"))?;
        let grid = [launch.grid[0] as c_uint, launch.grid[1] as c_uint, 1];
        let _one = RUNNING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let params: *const P = params;
        // SAFETY: what the caller promises of addresses and of `P` is what the kernel needs; the lock keeps others out.
        let code = unsafe {
            headwise_emulate(name.as_ptr(), grid.as_ptr(), launch.threads, launch.shared, params.cast(), self.seed)
        };
        match code {
            0 => Ok(()),
            1 => Err(Error::Internal { reason: format!("there is no kernel {}", launch.kernel) }),
            _ => {
                Err(Error::Internal { reason: format!("threads of {} wait for others that have ended", launch.kernel) })
            }
        }
    }
}
