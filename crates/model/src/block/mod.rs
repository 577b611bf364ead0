//! Decoder blocks, one file a family.

pub(crate) mod llama;
mod span;

pub use span::{Logits, Span, Wanted, Workspace};
