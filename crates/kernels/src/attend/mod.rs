//! Attention of new queries over a ragged cache: grouped queries, causal, online softmax, never a T × T matrix.
//!
//! Per query row `i`, query head `h` and its KV head `g = h / group`: `out = Σ_s softmax_s(scale · q · k_s + bias_s) · v_s`
//! over the slots `s` in `0 ..= len_g - rows + i`: the `rows` queries belong to the last `rows` slots of every head.
//! Sources: Milakov & Gimelshein 2018 (online softmax), Dao et al. 2022 (blocked attention), Dao et al. 2023 (Flash-Decoding:
//! splitting the keys and merging by log-sum-exp), Ainslie et al. 2023 (GQA).
//!
//! Two hooks for merging and compensation policies: the per-slot logit `bias`, and [`Partial`], an attention result before
//! the division that can be merged with another over other slots.
//!
//! A by-product that cannot be had later: the weight that each slot gets from all rows, summed, or the largest ([`Columns`]).
//!
//! A row without any weight (every slot biased by -∞) gives zeros. NaN in q, K or V gives NaN in the rows that see it.
//! Bit-identical for any number of rayon threads. Few rows ([`DECODE_ROWS`] at most) go the decode way, split over slots;
//! more go the prefill way, split over queries, where a row's result is bit-identical however the prompt was cut.

mod columns;
pub mod cpu;
pub mod cuda;
mod decode;
mod partial;
mod prefill;
pub mod reference;
mod simd_decode;
mod simd_product;

pub use cpu::DECODE_ROWS;
pub use partial::Partial;

use crate::nan::first_nan;
use crate::simd::Level;
use crate::{AnyHead, Block, HeadView};
use headwise_core::{Error, Result};

/// One attention problem: the queries of one layer of one session and the heads that they read.
pub struct Query<'a, B> {
    /// `[rows][query heads][head_dim]`, after RoPE.
    pub q: &'a [f32],
    /// Query rows; they belong to the last `rows` slots of every head.
    pub rows: usize,
    /// KV heads; query head `h` reads head `h / (query heads / KV heads)`. Lengths and codecs may differ.
    pub heads: &'a [HeadView<'a, B>],
    /// Per KV head one additive logit per slot, finite or -∞.
    pub bias: Option<&'a [&'a [f32]]>,
    /// Factor of `q · k`, usually `1 / √head_dim`.
    pub scale: f32,
}

impl<B> Clone for Query<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B> Copy for Query<'_, B> {}

/// A [`Query`] and where its result goes.
pub struct Job<'a, B> {
    /// The problem.
    pub query: Query<'a, B>,
    /// `[rows][query heads][head_dim]`. The same bits whether or not `columns` are asked for.
    pub out: &'a mut [f32],
    /// What is wanted of the weights.
    pub columns: Option<Columns<'a>>,
}

/// What each slot gets of the weights `softmax(…)` of a job's rows.
pub struct Columns<'a> {
    /// How the rows are reduced.
    pub reduce: ColumnReduce,
    /// What is added to, or raised: per query head one number for each slot of its KV head, head after head (lengths may differ).
    ///
    /// The order of additions is fixed; a prompt cut in another way gives the same numbers but for rounding. NaN in q or K gives NaN in the sums of that
    /// KV head; a maximum may pass it over.
    pub out: &'a mut [f32],
    /// What the weights of each row are multiplied with, not negative, `[rows]`; 1 where not given.
    pub factors: Option<&'a [f32]>,
}

/// How [`Columns`] are made of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnReduce {
    /// Added up: without factors, a query head's numbers grow by the number of rows together.
    Sum,
    /// The largest, or what was there if that is larger.
    Max,
}

/// Attention of one layer of one session; see [`Query`] for the shapes.
///
/// # Errors
/// `ShapeMismatch` and `InvalidArgument` when an argument does not fit the contract, `NotANumber` for a bias that is NaN.
pub fn attend<B: Block>(
    q: &[f32],
    rows: usize,
    heads: &[HeadView<'_, B>],
    bias: Option<&[&[f32]]>,
    scale: f32,
    out: &mut [f32],
) -> Result<()> {
    attend_batch(&mut [Job { query: Query { q, rows, heads, bias, scale }, out, columns: None }])
}

/// [`attend`] for several sessions at once: one parallel region for all, and the same numbers as one by one.
pub fn attend_batch<B: Block>(jobs: &mut [Job<'_, B>]) -> Result<()> {
    cpu::attend_batch(Level::detect(), jobs)
}

/// [`attend`] before the division: `[rows][query heads]` numerators, denominators and maxima.
pub fn attend_partial<B: Block>(query: Query<'_, B>) -> Result<Partial> {
    cpu::attend_partial(Level::detect(), query)
}

/// Sizes of a [`Query`] that was checked.
#[derive(Clone, Copy)]
struct Dims {
    query_heads: usize,
    group: usize,
    head_dim: usize,
}

/// What one KV head has of a [`Query`] that was checked.
#[derive(Clone, Copy)]
struct HeadQuery<'a> {
    q: &'a [f32],
    rows: usize,
    scale: f32,
    head: usize,
    view: AnyHead<'a>,
    bias: Option<&'a [f32]>,
}

impl<B: Block> Query<'_, B> {
    fn of_head(&self, head: usize) -> HeadQuery<'_> {
        let Self { q, rows, heads, bias, scale } = *self;
        HeadQuery { q, rows, scale, head, view: heads[head].any(), bias: bias.map(|bias| bias[head]) }
    }

    fn check(&self) -> Result<Dims> {
        let Some(first) = self.heads.first() else {
            return Err(Error::invalid("heads", 0, "at least one KV head"));
        };
        let (head_dim, kv_heads) = (first.layout.head_dim, self.heads.len());
        if self.rows == 0 || head_dim == 0 {
            return Err(Error::invalid("rows", self.rows, "at least one row of a positive head_dim"));
        }
        let query_heads = (self.q.len() / head_dim / self.rows).max(1);
        if !query_heads.is_multiple_of(kv_heads)
            || query_heads.checked_mul(head_dim).and_then(|n| n.checked_mul(self.rows)) != Some(self.q.len())
        {
            return Err(Error::ShapeMismatch {
                what: "q".into(),
                expected: vec![self.rows, query_heads.next_multiple_of(kv_heads), head_dim],
                got: vec![self.q.len()],
            });
        }
        if !self.scale.is_finite() {
            return Err(Error::invalid("scale", self.scale, "a finite factor"));
        }
        for head in self.heads {
            head.check()?;
            if head.layout.head_dim != head_dim {
                return Err(Error::invalid("head_dim", head.layout.head_dim, "the same for all heads"));
            }
            if head.len < self.rows {
                return Err(Error::invalid("rows", self.rows, "at most the slots of every head"));
            }
        }
        self.check_bias()?;
        Ok(Dims { query_heads, group: query_heads / kv_heads, head_dim })
    }

    fn check_bias(&self) -> Result<()> {
        let Some(bias) = self.bias else { return Ok(()) };
        if !self.heads.iter().map(|head| head.len).eq(bias.iter().map(|row| row.len())) {
            return Err(Error::ShapeMismatch {
                what: "bias".into(),
                expected: self.heads.iter().map(|head| head.len).collect(),
                got: bias.iter().map(|row| row.len()).collect(),
            });
        }
        for row in bias {
            if let Some(index) = first_nan(row) {
                return Err(Error::NotANumber { what: "bias".into(), index });
            }
            if row.contains(&f32::INFINITY) {
                return Err(Error::invalid("bias", f32::INFINITY, "finite or -inf"));
            }
        }
        Ok(())
    }
}
