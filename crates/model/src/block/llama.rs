//! The Llama decoder (arXiv 2302.13971) and its relatives: pre-norm blocks of rotary grouped-query attention and SwiGLU, with
//! the biases of Qwen2 and the per-head norms of Qwen3 where a model has them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use headwise_core::{Error, Result, Rotation, recycle};
use headwise_kernels::CacheLines;
use headwise_kernels::attend::{Job, Query, attend_batch};
use headwise_kernels::matmul::{Product, dequantize_row, linear, linear_all};
use rayon::prelude::*;

use super::span::{Logits, Span, Team, Workspace};
use crate::config::Config;
use crate::elementwise::{add, for_each_row, rms_norm, rms_norm_heads, swiglu};
use crate::rope::Rope;
use crate::tap::{LayerStep, Turn};
use crate::weights::{Layer, Linear, Weights};

#[derive(Debug)]
pub(crate) struct Decoder {
    pub config: Config,
    pub weights: Weights,
    pub rope: Rope,
}

impl Decoder {
    /// See [`crate::Model::forward`].
    pub fn forward<'w>(
        &self,
        spans: &mut [Span<'_>],
        space: &'w mut Workspace,
        cancel: Option<&AtomicBool>,
    ) -> Result<Logits<'w>> {
        self.check(spans)?;
        consecutive(&mut space.wanted, spans.iter().map(|span| span.logits.rows(span.tokens.len())));
        let size = team_size(spans, rayon::current_num_threads());
        let count = spans.len().div_ceil(size);
        if space.teams.len() < count {
            space.teams.resize_with(count, Team::default);
        }
        let work = |(spans, team): (&mut [Span<'_>], &mut Team)| team.error = self.run(spans, team, cancel).err();
        if count > 1 {
            spans.par_chunks_mut(size).zip(&mut space.teams).for_each(work);
        } else {
            spans.chunks_mut(size).zip(&mut space.teams).for_each(work);
        }
        let error = space.teams[..count].iter_mut().find_map(|team| team.error.take());
        let outcome = error
            .map_or(Ok(()), Err)
            .and_then(|()| self.logits(&space.teams[..count], total(&space.wanted), &mut space.y, &mut space.logits));
        if let Err(error) = outcome {
            for (spans, team) in spans.chunks_mut(size).zip(&space.teams) {
                spans.iter_mut().zip(&team.first).for_each(|(span, &position)| span.cache.truncate(position));
            }
            return Err(error);
        }
        let vocab = self.config.vocab;
        Ok(Logits { data: &space.logits[..total(&space.wanted) * vocab], rows: &space.wanted, vocab })
    }

    /// Everything that can be known to be wrong before any work is done.
    pub(super) fn check(&self, spans: &[Span<'_>]) -> Result<()> {
        let (vocab, context) = (self.config.vocab, self.config.context);
        for span in spans {
            if span.tokens.is_empty() {
                return Err(Error::invalid("tokens", "[]", "at least one token"));
            }
            if let Some(token) = span.tokens.iter().find(|&&token| token as usize >= vocab) {
                return Err(Error::invalid("token", token, &format!("below the vocabulary's {vocab}")));
            }
            let (got, expected) = (span.cache.shape(), self.config.kv_shape());
            if got != expected {
                let list = |s: headwise_core::KvShape| vec![s.layers, s.kv_heads, s.group, s.head_dim];
                return Err(Error::ShapeMismatch {
                    what: "cache [layers, kv_heads, group, head_dim]".into(),
                    expected: list(expected),
                    got: list(got),
                });
            }
            let needed = (span.cache.next_rotary_position() as usize).saturating_add(span.tokens.len());
            if needed > context {
                return Err(Error::ContextExceeded { needed, limit: context });
            }
        }
        Ok(())
    }

    /// Takes some spans through all layers.
    fn run(&self, spans: &mut [Span<'_>], space: &mut Team, cancel: Option<&AtomicBool>) -> Result<()> {
        space.first.clear();
        space.first.extend(spans.iter().map(|span| span.cache.next_position()));
        consecutive(&mut space.rows, spans.iter().map(|span| span.tokens.len()));
        consecutive(&mut space.wanted, spans.iter().map(|span| span.logits.rows(span.tokens.len())));
        self.embed(spans, space)?;
        self.angles(spans, space);
        let m = total(&space.rows);
        for (index, layer) in self.weights.layers.iter().enumerate() {
            if cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
                return Err(Error::Aborted {});
            }
            self.layer(index, layer, m, spans, space)?;
        }
        Ok(())
    }

    /// Takes some spans of `m` rows through a layer.
    fn layer(&self, index: usize, layer: &Layer, m: usize, spans: &mut [Span<'_>], space: &mut Team) -> Result<()> {
        self.project(layer, m, space)?;
        self.store(index, spans, space)?;
        // Beyond the last layer's keys and values a row serves only its own logits.
        let last = index + 1 == self.weights.layers.len();
        if last {
            self.keep_last(space);
        }
        self.attention(index, layer, spans, last, space)?;
        self.feed_forward(layer, if last { total(&space.wanted) } else { m }, space)
    }

    /// Takes a span, whose first token is at `first`, through one layer. `stream` is its residual stream before and after, `[rows][hidden]`; before the
    /// first layer and behind the last one it is not looked at.
    pub(super) fn run_layer(
        &self,
        index: usize,
        span: Span<'_>,
        first: u32,
        stream: &mut [f32],
        space: &mut Team,
    ) -> Result<()> {
        let mut spans = [span];
        space.first.clear();
        space.first.push(first);
        consecutive(&mut space.rows, spans.iter().map(|span| span.tokens.len()));
        consecutive(&mut space.wanted, spans.iter().map(|span| span.logits.rows(span.tokens.len())));
        if index == 0 {
            self.embed(&spans, space)?;
        } else {
            space.x.at_least(stream.len()).copy_from_slice(stream);
        }
        self.angles(&spans, space);
        let m = total(&space.rows);
        self.layer(index, &self.weights.layers[index], m, &mut spans, space)?;
        if index + 1 < self.weights.layers.len() {
            stream.copy_from_slice(&space.x[..m * self.config.hidden]);
        }
        Ok(())
    }

    /// The logits of the only team's only wanted row.
    pub(super) fn logits_of_one<'w>(&self, space: &'w mut Workspace) -> Result<Logits<'w>> {
        consecutive(&mut space.wanted, std::iter::once(1));
        self.logits(&space.teams[..1], 1, &mut space.y, &mut space.logits)?;
        let vocab = self.config.vocab;
        Ok(Logits { data: &space.logits[..vocab], rows: &space.wanted, vocab })
    }

    fn embed(&self, spans: &[Span<'_>], space: &mut Team) -> Result<()> {
        let hidden = self.config.hidden;
        let table = self.weights.embedding.matrix()?;
        let x = space.x.at_least(total(&space.rows) * hidden);
        for (row, &token) in x.chunks_exact_mut(hidden).zip(spans.iter().flat_map(|span| span.tokens)) {
            dequantize_row(table, token as usize, row)?;
        }
        Ok(())
    }

    fn angles(&self, spans: &[Span<'_>], space: &mut Team) {
        space.cos.clear();
        space.sin.clear();
        for ((span, &first), rows) in spans.iter().zip(&space.first).zip(&space.rows) {
            // Below the context, which was checked.
            for offset in 0..rows.len() as u32 {
                self.rope.push_angles(span.cache.rotary_position(first) + offset, &mut space.cos, &mut space.sin);
            }
        }
    }

    /// Residual stream → rotated queries and keys, values.
    fn project(&self, layer: &Layer, m: usize, space: &mut Team) -> Result<()> {
        let Config { hidden, heads, kv_heads, head_dim, norm_eps, .. } = self.config;
        let y = space.y.at_least(m * hidden);
        rms_norm(y, &space.x[..m * hidden], &layer.attention_norm, norm_eps);
        let q = space.q.at_least(m * heads * head_dim);
        let k = space.k.at_least(m * kv_heads * head_dim);
        let v = space.v.at_least(m * kv_heads * head_dim);
        linear_all(y, &mut [product(&layer.q, q)?, product(&layer.k, k)?, product(&layer.v, v)?])?;

        let (q_norm, k_norm) = layer.qk_norm.as_ref().map(|(q, k)| (&q[..], &k[..])).unzip();
        let half = head_dim / 2;
        for (data, width, norm) in [(q, heads * head_dim, q_norm), (k, kv_heads * head_dim, k_norm)] {
            for_each_row(data, width, |i, row| {
                if let Some(norm) = norm {
                    rms_norm_heads(row, norm, norm_eps);
                }
                let angles = i * half..(i + 1) * half;
                self.rope.rotate(row, &space.cos[angles.clone()], &space.sin[angles]);
            });
        }
        Ok(())
    }

    /// Keys and values go into the caches; taps see the queries.
    fn store(&self, index: usize, spans: &mut [Span<'_>], space: &Team) -> Result<()> {
        let Config { heads, kv_heads, head_dim, .. } = self.config;
        for ((span, &first_position), rows) in spans.iter_mut().zip(&space.first).zip(&space.rows) {
            let slots = scaled(rows, kv_heads * head_dim);
            span.cache.append(index, &space.k[slots.clone()], &space.v[slots], first_position)?;
            let queries = &space.q[scaled(rows, heads * head_dim)];
            let keys = &space.k[scaled(rows, kv_heads * head_dim)];
            let turn = Turn {
                rotation: &self.rope,
                cos: &space.cos[scaled(rows, head_dim / 2)],
                sin: &space.sin[scaled(rows, head_dim / 2)],
            };
            let inputs = &space.y[scaled(rows, self.config.hidden)];
            span.tap.layer(&LayerStep { layer: index, first_position, rows: rows.len(), queries, keys, turn, inputs });
        }
        Ok(())
    }

    /// Moves the wanted rows of every span, its last ones, together in the residual stream.
    fn keep_last(&self, space: &mut Team) {
        let width = self.config.hidden;
        for (from, to) in space.rows.iter().zip(&space.wanted) {
            space.x.copy_within(scaled(&last_rows(from, to), width), to.start * width);
        }
    }

    /// `x += W_o · attention(q, cache)`, of all rows or of the wanted ones.
    fn attention(
        &self,
        index: usize,
        layer: &Layer,
        spans: &mut [Span<'_>],
        wanted: bool,
        space: &mut Team,
    ) -> Result<()> {
        let Config { hidden, heads, kv_heads, head_dim, .. } = self.config;
        let width = heads * head_dim;
        let rows = if wanted { &space.wanted } else { &space.rows };
        let m = total(rows);
        let scale = (head_dim as f32).sqrt().recip();
        let mut views = recycle(std::mem::take(&mut space.heads));
        let mut columns = recycle(std::mem::take(&mut space.columns));
        for Span { cache, tap, .. } in spans {
            let before = views.len();
            views.extend(cache.heads(index));
            columns.push(tap.columns(index, &views[before..]));
        }
        // Where columns are wanted of more rows than the output, these rows attend once more, for nothing but the columns.
        let more = |columns: &Option<_>, of: &Range<usize>, rows: &Range<usize>| {
            if columns.is_some() && of.len() > rows.len() { of.len() } else { 0 }
        };
        let spare: usize = columns.iter().zip(&space.rows).zip(rows).map(|((c, of), rows)| more(c, of, rows)).sum();
        let (out, mut spare) = space.attention.at_least((m + spare) * width).split_at_mut(m * width);
        let mut jobs = recycle(std::mem::take(&mut space.jobs));
        let mut rest = &mut *out;
        for (((heads, columns), of), rows) in views.chunks_exact(kv_heads).zip(&mut columns).zip(&space.rows).zip(rows)
        {
            let query = |rows: &Range<usize>| Query {
                q: &space.q[scaled(rows, width)],
                rows: rows.len(),
                heads,
                bias: None,
                scale,
            };
            let mut columns = columns.take();
            let more = more(&columns, of, rows);
            if more > 0 {
                let (out, after) = spare.split_at_mut(more * width);
                spare = after;
                jobs.push(Job { query: query(of), out, columns: columns.take() });
            }
            if !rows.is_empty() {
                let (out, after) = rest.split_at_mut(rows.len() * width);
                rest = after;
                jobs.push(Job { query: query(&last_rows(of, rows)), out, columns });
            }
        }
        let attended = attend_batch(&mut jobs);
        space.jobs = recycle(jobs);
        space.columns = recycle(columns);
        space.heads = recycle(views);
        attended?;
        let y = space.y.at_least(m * hidden);
        linear_all(out, &mut [product(&layer.o, y)?])?;
        add(&mut space.x[..m * hidden], y);
        Ok(())
    }

    /// `x += W_down · (silu(W_gate · norm(x)) * W_up · norm(x))`.
    fn feed_forward(&self, layer: &Layer, m: usize, space: &mut Team) -> Result<()> {
        let Config { hidden, intermediate, norm_eps, .. } = self.config;
        let x = &mut space.x[..m * hidden];
        let y = space.y.at_least(m * hidden);
        rms_norm(y, x, &layer.mlp_norm, norm_eps);
        let gate = space.gate.at_least(m * intermediate);
        let up = space.up.at_least(m * intermediate);
        linear_all(y, &mut [product(&layer.gate, gate)?, product(&layer.up, up)?])?;
        swiglu(gate, up, intermediate);
        linear_all(gate, &mut [product(&layer.down, y)?])?;
        add(x, y);
        Ok(())
    }

    /// The logits of the `m` rows that want some, for all teams at once.
    fn logits(&self, teams: &[Team], m: usize, y: &mut CacheLines, logits: &mut CacheLines) -> Result<()> {
        let Config { hidden, vocab, norm_eps, .. } = self.config;
        let y = y.at_least(m * hidden);
        let mut rest = &mut *y;
        for team in teams {
            let x = &team.x[..total(&team.wanted) * hidden];
            let (y, after) = rest.split_at_mut(x.len());
            rest = after;
            rms_norm(y, x, &self.weights.norm, norm_eps);
        }
        let logits = logits.at_least(m * vocab);
        linear(logits, y, self.weights.head.matrix()?, None)?;
        // Without an early exit the compiler looks at many at once.
        if logits.iter().fold(true, |finite, logit| finite & logit.is_finite()) {
            return Ok(());
        }
        let index = logits.iter().position(|logit| !logit.is_finite()).unwrap_or_default();
        Err(Error::NotANumber { what: "logits".into(), index })
    }
}

fn product<'a>(linear: &'a Linear, out: &'a mut [f32]) -> Result<Product<'a>> {
    Ok(Product { out, w: linear.weight.matrix()?, bias: linear.bias.as_deref() })
}

/// Spans of a team.
///
/// Many sessions that decode one token each go through the layers in as many teams as there are threads: a thread then waits for others only at the end,
/// and while one multiplies, which leaves memory idle, another may attend, which does not. Each team reads all weights, at some
/// 50 GB/s divided by its sessions (a core multiplies 80 G weights of 5 bits a second); with as many sessions as asked here that is 25 GB/s at
/// most for all threads together.
fn team_size(spans: &[Span<'_>], threads: usize) -> usize {
    let decoding = spans.iter().all(|span| span.tokens.len() == 1);
    let teams = if decoding && spans.len() >= 2 * threads * threads { threads } else { 1 };
    spans.len().div_ceil(teams).max(1)
}

/// Row ranges of these lengths, one after another.
fn consecutive(ranges: &mut Vec<Range<usize>>, lengths: impl Iterator<Item = usize>) {
    ranges.clear();
    ranges.extend(lengths.scan(0, |end, length| {
        *end += length;
        Some(*end - length..*end)
    }));
}

fn total(rows: &[Range<usize>]) -> usize {
    rows.last().map_or(0, |last| last.end)
}

/// The last rows of `of`, as many as `rows`.
fn last_rows(of: &Range<usize>, rows: &Range<usize>) -> Range<usize> {
    of.end - rows.len()..of.end
}

fn scaled(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}
