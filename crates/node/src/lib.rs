//! napi glue.
