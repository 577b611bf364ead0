//! The nouns of headwise: ragged arrays, scores, selections, shapes and errors. No compute, no I/O.

mod error;
mod ragged;
mod shape;

pub use error::{Error, Result};
pub use ragged::{Indptr, Ragged, Scores, Selection};
pub use shape::{Codec, KvShape};
