//! The nouns of headwise: ragged arrays, scores, selections, shapes and errors. No compute, no I/O.

mod error;
mod ragged;
mod recycle;
mod rotation;
mod shape;

pub use error::{Error, Result};
pub use ragged::{Indptr, Ragged, Scores, Selection};
pub use recycle::recycle;
pub use rotation::Rotation;
pub use shape::{Codec, KvShape};
