//! Kernels of headwise: one folder each, with its contract (`mod.rs`), its f64 reference (`reference.rs`) and its CPU body
//! (`cpu.rs`). They compute on borrowed views of the cache; what scoring needs meanwhile lies in [`Buffer`]s.

pub mod attend;
mod buffer;
mod cache_lines;
pub mod compact;
pub mod encode;
mod format;
pub mod gpu;
pub mod gram;
pub mod image_norms;
pub mod key_norm;
pub mod matmul;
mod nan;
pub mod output_changes;
pub mod pool1d;
mod rows;
pub mod simd;
mod simd_cells;
#[cfg(target_arch = "aarch64")]
mod simd_neon;
pub mod simd_vector;
mod strips;
pub mod topk;
pub mod topk_across_heads;
mod view;
pub mod weighted_sums;
pub mod window_scores;

pub use attend::{attend, attend_batch};
pub use buffer::{Buffer, ReuseBuffers};
pub use cache_lines::CacheLines;
pub use compact::compact;
pub use encode::encode;
pub use gram::gram;
pub use image_norms::ImageNorms;
pub use key_norm::key_norm;
pub use nan::first_nan;
pub use output_changes::output_changes;
pub use pool1d::Pool1d;
pub use rows::numbers;
pub use strips::Strips;
pub use topk::topk;
pub use topk_across_heads::topk_across_heads;
pub(crate) use view::{AnyHead, Half};
pub use view::{Block, BlockLayout, HeadView};
pub use weighted_sums::weighted_sums;
pub use window_scores::{GroupReduce, RowReduce, Window, WindowScores, group_reduce, window_rows, window_sums};
