//! Kernels of headwise: one folder each, with its contract (`mod.rs`), its f64 reference (`reference.rs`) and its CPU body
//! (`cpu.rs`). They compute on borrowed views and own no memory.

pub mod simd;
mod view;

pub use view::{Block, BlockLayout, HeadView};
