//! CUDA kernels without a GPU: [`Emulator`] is a [`Gpu`](headwise_kernels::gpu::Gpu) on the CPU, for tests. What it sees and what not is written in
//! cpp/emulator.h. On machines without a C++ compiler and `ucontext` it is not there.
#![cfg(emulator)]

mod cuda;

pub use cuda::{Emulator, Memory};
