//! The CUDA kernels against the f64 references of the kernels that they are siblings of, over the same shapes, in the emulator.
#![cfg(emulator)]

mod attend;
mod cuda;
mod encode;
mod scores;
mod selection;

#[allow(dead_code)]
#[path = "../../../kernels/tests/conformance/support.rs"]
mod support;
