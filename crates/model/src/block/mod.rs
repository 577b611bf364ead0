//! Decoder blocks, one file a family.

mod layer_pass;
pub(crate) mod llama;
mod span;

pub use layer_pass::LayerPass;
pub use span::{Logits, Span, Wanted, Workspace};
