//! The Llama decoder (arXiv 2302.13971) and its relatives: pre-norm blocks of rotary grouped-query attention and SwiGLU, with
//! the biases of Qwen2 and the per-head norms of Qwen3 where a model has them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use headwise_core::{Error, Result};
use headwise_kernels::attend::{Job, Query, attend_batch};
use headwise_kernels::matmul::{Product, dequantize_row, linear, linear_all};

use super::span::{Span, Workspace, at_least};
use crate::config::Config;
use crate::elementwise::{add, for_each_row, rms_norm, rms_norm_heads, swiglu};
use crate::rope::Rope;
use crate::tap::LayerStep;
use crate::weights::{Layer, Linear, Weights};

#[derive(Debug)]
pub(crate) struct Decoder {
    pub config: Config,
    pub weights: Weights,
    pub rope: Rope,
}

impl Decoder {
    /// See [`crate::Model::forward`].
    pub fn forward(
        &self,
        spans: &mut [Span<'_>],
        space: &mut Workspace,
        cancel: Option<&AtomicBool>,
    ) -> Result<Vec<Vec<f32>>> {
        self.check(spans)?;
        let before: Vec<u32> = spans.iter().map(|span| span.cache.next_position()).collect();
        let result = self.run(spans, space, cancel);
        if result.is_err() {
            spans.iter_mut().zip(before).for_each(|(span, position)| span.cache.truncate(position));
        }
        result
    }

    /// Everything that can be known to be wrong before any work is done.
    fn check(&self, spans: &[Span<'_>]) -> Result<()> {
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
            let needed = (span.cache.next_position() as usize).saturating_add(span.tokens.len());
            if needed > context {
                return Err(Error::ContextExceeded { needed, limit: context });
            }
        }
        Ok(())
    }

    fn run(&self, spans: &mut [Span<'_>], space: &mut Workspace, cancel: Option<&AtomicBool>) -> Result<Vec<Vec<f32>>> {
        let first: Vec<u32> = spans.iter().map(|span| span.cache.next_position()).collect();
        let mut rows = consecutive(spans.iter().map(|span| span.tokens.len()));
        self.embed(spans, space)?;
        self.angles(&first, &rows, space);
        for (index, layer) in self.weights.layers.iter().enumerate() {
            if cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
                return Err(Error::Aborted {});
            }
            self.project(layer, total(&rows), space)?;
            self.store(index, spans, &first, &rows, space)?;
            if index + 1 == self.weights.layers.len() {
                // Beyond this point a row serves only its own logits.
                let wanted = consecutive(spans.iter().map(|span| span.logits.rows(span.tokens.len())));
                self.keep_last(&rows, &wanted, space);
                rows = wanted;
            }
            self.attention(index, layer, spans, &rows, space)?;
            self.feed_forward(layer, total(&rows), space)?;
        }
        self.logits(&rows, space)
    }

    fn embed(&self, spans: &[Span<'_>], space: &mut Workspace) -> Result<()> {
        let hidden = self.config.hidden;
        let table = self.weights.embedding.matrix()?;
        let tokens: Vec<u32> = spans.iter().flat_map(|span| span.tokens).copied().collect();
        let x = at_least(&mut space.x, tokens.len() * hidden);
        for (row, &token) in x.chunks_exact_mut(hidden).zip(&tokens) {
            dequantize_row(table, token as usize, row)?;
        }
        Ok(())
    }

    fn angles(&self, first: &[u32], rows: &[Range<usize>], space: &mut Workspace) {
        space.cos.clear();
        space.sin.clear();
        for (&first, rows) in first.iter().zip(rows) {
            // Below the context, which was checked.
            for offset in 0..rows.len() as u32 {
                self.rope.push_angles(first + offset, &mut space.cos, &mut space.sin);
            }
        }
    }

    /// Residual stream → rotated queries and keys, values.
    fn project(&self, layer: &Layer, m: usize, space: &mut Workspace) -> Result<()> {
        let Config { hidden, heads, kv_heads, head_dim, norm_eps, .. } = self.config;
        let y = at_least(&mut space.y, m * hidden);
        rms_norm(y, &space.x[..m * hidden], &layer.attention_norm, norm_eps);
        let q = at_least(&mut space.q, m * heads * head_dim);
        let k = at_least(&mut space.k, m * kv_heads * head_dim);
        let v = at_least(&mut space.v, m * kv_heads * head_dim);
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
    fn store(
        &self,
        index: usize,
        spans: &mut [Span<'_>],
        first: &[u32],
        rows: &[Range<usize>],
        space: &Workspace,
    ) -> Result<()> {
        let Config { heads, kv_heads, head_dim, .. } = self.config;
        for ((span, &first_position), rows) in spans.iter_mut().zip(first).zip(rows) {
            let slots = scaled(rows, kv_heads * head_dim);
            span.cache.append(index, &space.k[slots.clone()], &space.v[slots], first_position)?;
            let queries = &space.q[scaled(rows, heads * head_dim)];
            span.tap.layer(&LayerStep { layer: index, first_position, rows: rows.len(), queries });
        }
        Ok(())
    }

    /// Moves the last `to[i].len()` rows of every `from[i]` to `to[i]`, in the residual stream and the queries.
    fn keep_last(&self, from: &[Range<usize>], to: &[Range<usize>], space: &mut Workspace) {
        let q_width = self.config.heads * self.config.head_dim;
        for (buffer, width) in [(&mut space.x, self.config.hidden), (&mut space.q, q_width)] {
            for (from, to) in from.iter().zip(to) {
                let source = from.end - to.len()..from.end;
                buffer.copy_within(scaled(&source, width), to.start * width);
            }
        }
    }

    /// `x += W_o · attention(q, cache)`.
    fn attention(
        &self,
        index: usize,
        layer: &Layer,
        spans: &[Span<'_>],
        rows: &[Range<usize>],
        space: &mut Workspace,
    ) -> Result<()> {
        let Config { hidden, heads, head_dim, .. } = self.config;
        let m = total(rows);
        let scale = (head_dim as f32).sqrt().recip();
        let out = at_least(&mut space.attention, m * heads * head_dim);
        let views: Vec<_> = spans.iter().map(|span| span.cache.heads(index)).collect();
        let mut jobs = Vec::with_capacity(spans.len());
        let mut rest = &mut *out;
        for (heads_of_span, rows) in views.iter().zip(rows).filter(|(_, rows)| !rows.is_empty()) {
            let range = scaled(rows, heads * head_dim);
            let (out, after) = rest.split_at_mut(range.len());
            rest = after;
            let query = Query { q: &space.q[range], rows: rows.len(), heads: heads_of_span, bias: None, scale };
            jobs.push(Job { query, out });
        }
        attend_batch(&mut jobs)?;
        drop(jobs);
        let y = at_least(&mut space.y, m * hidden);
        linear_all(out, &mut [product(&layer.o, y)?])?;
        add(&mut space.x[..m * hidden], y);
        Ok(())
    }

    /// `x += W_down · (silu(W_gate · norm(x)) * W_up · norm(x))`.
    fn feed_forward(&self, layer: &Layer, m: usize, space: &mut Workspace) -> Result<()> {
        let Config { hidden, intermediate, norm_eps, .. } = self.config;
        let x = &mut space.x[..m * hidden];
        let y = at_least(&mut space.y, m * hidden);
        rms_norm(y, x, &layer.mlp_norm, norm_eps);
        let gate = at_least(&mut space.gate, m * intermediate);
        let up = at_least(&mut space.up, m * intermediate);
        linear_all(y, &mut [product(&layer.gate, gate)?, product(&layer.up, up)?])?;
        swiglu(gate, up, intermediate);
        linear_all(gate, &mut [product(&layer.down, y)?])?;
        add(x, y);
        Ok(())
    }

    fn logits(&self, rows: &[Range<usize>], space: &mut Workspace) -> Result<Vec<Vec<f32>>> {
        let Config { hidden, vocab, norm_eps, .. } = self.config;
        let m = total(rows);
        let y = at_least(&mut space.y, m * hidden);
        rms_norm(y, &space.x[..m * hidden], &self.weights.norm, norm_eps);
        let mut logits = vec![0.0; m * vocab];
        linear(&mut logits, y, self.weights.head.matrix()?, None)?;
        if let Some(index) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(Error::NotANumber { what: "logits".into(), index });
        }
        Ok(match rows {
            [_] => vec![logits],
            _ => rows.iter().map(|rows| logits[scaled(rows, vocab)].to_vec()).collect(),
        })
    }
}

fn product<'a>(linear: &'a Linear, out: &'a mut [f32]) -> Result<Product<'a>> {
    Ok(Product { out, w: linear.weight.matrix()?, bias: linear.bias.as_deref() })
}

/// Row ranges of these lengths, one after another.
fn consecutive(lengths: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    lengths
        .scan(0, |end, length| {
            *end += length;
            Some(*end - length..*end)
        })
        .collect()
}

fn total(rows: &[Range<usize>]) -> usize {
    rows.last().map_or(0, |last| last.end)
}

fn scaled(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}
