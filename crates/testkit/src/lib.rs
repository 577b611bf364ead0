//! What the other crates are tested with: golden cases of published implementations, tiny models with known outputs.
//! A development tool only; nothing that ships depends on it.

mod files;
pub mod golden;
pub mod models;
