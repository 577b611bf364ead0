//! What has to be gathered while the prompt is read, because it cannot be had later, and what it is gathered in.
//!
//! A gatherer takes the rows of a pass as they come. What it holds afterwards does not depend on how the prompt was cut.

mod chunk_attention;
mod echo;
mod probe;
mod query_moments;
mod tokens;

use headwise_core::Rotation;

pub use chunk_attention::{ChunkAttention, ChunkGrid};
pub use echo::{Echo, EchoRows};
pub use probe::{Probe, ProbeRows, ProbeText};
pub use query_moments::{Moments, QueryMoments};
pub use tokens::TokenClass;

/// Takes the rows of passes, one layer's.
pub trait Gather: Clone {
    /// What a pass brings, which may still fail.
    type Rows: Default + Clone;

    /// Takes over the rows of a pass that went through.
    fn take(&mut self, rows: &Self::Rows);

    /// Turns what is held of rotated rows, because more will follow, `by` positions back.
    fn turn_back(&mut self, _rotation: &dyn Rotation, _by: u32) {}
}

/// What a scorer needs beside keys and values, which are in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Post-RoPE queries of this many last positions, every layer.
    pub window_queries: usize,
    /// The attention that each slot gets, summed over all queries, every layer. It cannot be had later.
    pub running_sums: bool,
    /// Mean and covariance of all queries before their rotation. They cannot be had later.
    pub query_moments: bool,
    /// The attention inside each chunk of a grid, every query seeing every key. It cannot be had later.
    pub chunk_attention: Vec<ChunkGrid>,
    /// What the queries would look at in a second reading, in chunks of so many positions. It cannot be had later.
    pub echo: Vec<usize>,
    /// What kind of token each position holds.
    pub token_classes: bool,
    /// Text to read behind the cache when it is compressed. Nothing is gathered before.
    pub probe: Option<Probe>,
}

impl Needs {
    /// What serves both. Only one of them has a probe: a policy's scorer.
    pub fn and(mut self, other: Self) -> Self {
        self.window_queries = self.window_queries.max(other.window_queries);
        self.running_sums |= other.running_sums;
        self.query_moments |= other.query_moments;
        for grid in other.chunk_attention {
            if !self.chunk_attention.contains(&grid) {
                self.chunk_attention.push(grid);
            }
        }
        for chunk in other.echo {
            if !self.echo.contains(&chunk) {
                self.echo.push(chunk);
            }
        }
        self.token_classes |= other.token_classes;
        self.probe = self.probe.or(other.probe);
        self
    }
}

/// What was gathered of one layer, borrowed; `Default` is nothing.
#[derive(Clone, Copy, Default)]
pub struct Gathered<'a> {
    /// The attention that each slot got from all queries since it was stored, summed: per query head one number for each slot of its KV head,
    /// head after head. `None` where it was not gathered.
    pub running_sums: Option<&'a [f32]>,
    /// Moments of the queries before their rotation.
    pub query_moments: Option<&'a QueryMoments>,
    /// Attention inside chunks, one a grid.
    pub chunk_attention: &'a [&'a ChunkAttention],
    /// What the queries would look at in a second reading.
    pub echo: &'a [&'a Echo],
    /// Classes of the tokens, `[seen]`. `None` where there is no tokenizer.
    pub token_classes: Option<&'a [TokenClass]>,
    /// What each slot gets of the attention of the policy's probe, laid out as `running_sums`.
    pub probe: Option<&'a [f32]>,
}
