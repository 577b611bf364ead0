//! A whole decode step, and where its time goes. The model is the GGUF file that `HEADWISE_MODEL` names, or one of the size of
//! SmolLM2-135M that the bench writes itself, with random weights.

#![allow(missing_docs, reason = "a program")]

mod common;
mod model;
mod roofline;

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Instant;

use common::{cache, compacted_cache, noise, spread};
use criterion::{Criterion, criterion_group, criterion_main};
use headwise_cache::KvCache;
use headwise_core::Codec;
use headwise_engine::{Sampler, SamplerOptions};
use headwise_kernels::attend;
use headwise_kernels::matmul::{Matrix, Product, linear_all};
use headwise_model::{NoTap, Span, Wanted, Workspace};
use model::LOADED;
use roofline::{Group, Row, Work, note, seconds, time};

/// Sessions that decode together, each behind a prompt of its own.
#[derive(Clone, Copy)]
struct Load {
    sessions: usize,
    tokens: usize,
    /// Slots that a layer of a session has left, all heads together.
    slots: usize,
}

impl Load {
    fn full(sessions: usize, tokens: usize) -> Self {
        Self { sessions, tokens, slots: tokens * LOADED.model.shape().kv_heads }
    }

    /// A tenth of every layer, its heads 10-fold apart: as a policy leaves them that lets heads compete.
    fn compressed(sessions: usize, tokens: usize) -> Self {
        Self { sessions, tokens, slots: Self::full(sessions, tokens).slots / 10 }
    }

    fn caches(self) -> Vec<KvCache> {
        let shape = LOADED.model.shape();
        let one = || match self.slots == self.tokens * shape.kv_heads {
            true => cache(shape, self.tokens),
            false => compacted_cache(shape, self.tokens, &spread(shape.kv_heads, self.slots, 10.0)),
        };
        (0..self.sessions).map(|_| one()).collect()
    }

    /// Every cache once; each number takes part in one product per query head of its group.
    fn attention(self) -> Work {
        let shape = LOADED.model.shape();
        let slots = self.sessions * shape.layers * self.slots;
        Work { bytes: slots * shape.slot_bytes(Codec::F16), operations: slots * 4 * shape.group * shape.head_dim }
    }

    /// All weights once, each in one product per session, and attention.
    fn step(self) -> Work {
        let (weights, attention) = (LOADED.needed(), self.attention());
        Work {
            bytes: weights.bytes + attention.bytes,
            operations: 2 * self.sessions * weights.count + attention.operations,
        }
    }
}

/// Times the next token of every session.
fn step(group: &mut Group, name: &str, load: Load) {
    let mut space = Workspace::default();
    let mut caches = None;
    group.bench_timed(name, load.step(), || {
        let caches = caches.get_or_insert_with(|| load.caches());
        let mut taps = vec![NoTap; caches.len()];
        let mut spans: Vec<Span> = (caches.iter_mut().zip(&mut taps))
            .map(|(cache, tap)| Span { tokens: &[1], cache, tap, logits: Wanted::Last })
            .collect();
        let start = Instant::now();
        black_box(LOADED.model.forward(&mut spans, &mut space, None).expect("room in the context"));
        let elapsed = start.elapsed();
        caches.iter_mut().for_each(|cache| cache.truncate(load.tokens as u32));
        elapsed
    });
}

fn sessions(criterion: &mut Criterion) {
    let mut group = Group::new(criterion, "decode step", 10, 1200);
    step(&mut group, "7900 tokens, a tenth kept", Load::compressed(1, 7900));
    step(&mut group, "8 sessions of 2048 tokens", Load::full(8, 2048));
    step(&mut group, "8 sessions of 2048 tokens, a tenth kept", Load::compressed(8, 2048));
    group.finish();
}

/// Products of one row with all of these.
fn work_of<'a>(matrices: impl Iterator<Item = &'a Matrix<'a>>) -> Work {
    let one =
        |w: &Matrix| (w.rows() * w.cols() / w.dtype().block_size() * w.dtype().type_size(), 2 * w.rows() * w.cols());
    let (bytes, operations): (Vec<_>, Vec<_>) = matrices.map(one).unzip();
    Work { bytes: bytes.iter().sum(), operations: operations.iter().sum() }
}

const PROMPTS: [usize; 3] = [128, 2048, 7900];
const LAYERS: &str = "products of the layers";
const PRODUCTS: &str = "products of the layers and the head";
const SAMPLING: &str = "sampling, greedy";

fn whole(tokens: usize) -> String {
    format!("step, {tokens} tokens")
}

fn attention(tokens: usize) -> String {
    format!("attention, {tokens} tokens")
}

/// Steps and, by themselves, their parts.
fn parts(criterion: &mut Criterion) {
    let mut group = Group::new(criterion, "decode step and its parts", 20, 1000);
    let config = LOADED.model.config();
    let row = config.heads * config.head_dim;
    let (q, mut out) = (noise(row), vec![0.0; row]);
    let scale = (config.head_dim as f32).sqrt().recip();
    for tokens in PROMPTS {
        let load = Load::full(1, tokens);
        step(&mut group, &whole(tokens), load);
        let caches = LazyLock::new(|| load.caches());
        group.bench(&attention(tokens), load.attention(), || {
            for layer in 0..config.layers {
                let heads: Vec<_> = caches[0].heads(layer).collect();
                attend(&q, 1, &heads, None, scale, &mut out).expect("valid");
            }
        });
    }
    let mut products = LOADED.products();
    let head = products.pop().expect("the output head");
    let widest = config.hidden.max(config.intermediate).max(config.heads * config.head_dim);
    let (x, mut out) = (noise(widest), vec![0.0; 3 * widest.max(config.vocab)]);
    let mut multiply = |matrices: &[Matrix]| {
        let mut rest = &mut out[..];
        let mut batch: Vec<Product> = Vec::new();
        for &w in matrices {
            let (out, after) = std::mem::take(&mut rest).split_at_mut(w.rows());
            rest = after;
            batch.push(Product { out, w, bias: None });
        }
        linear_all(&x[..matrices[0].cols()], &mut batch).expect("the shapes agree");
    };
    group.bench(LAYERS, work_of(products.iter().flatten()), || products.iter().for_each(|matrices| multiply(matrices)));
    // Not the head alone: by itself it may stay in a cache, which the layers sweep clean in between.
    group.bench(PRODUCTS, work_of(products.iter().flatten().chain(&head)), || {
        products.iter().for_each(|matrices| multiply(matrices));
        multiply(&head);
    });
    let logits = noise(config.vocab);
    let mut sampler = Sampler::new(SamplerOptions::default()).expect("valid");
    let seen = HashSet::new();
    group.bench(SAMPLING, Work { bytes: 4 * config.vocab, operations: 0 }, || {
        black_box(sampler.sample(&logits, &seen).expect("no NaN"));
    });
    let rows = group.finish();
    // None where a filter left something out.
    if let Some(table) = shares(&rows) {
        note(&table);
    }
}

/// A table of the parts as shares of a token's time, for as many threads as there are in `rows`.
fn shares(rows: &[Row]) -> Option<String> {
    let mut threads: Vec<usize> = rows.iter().map(|row| row.threads).collect();
    threads.sort_unstable();
    threads.dedup();
    let mut text = String::from(
        "Where a token's time goes. The rest is what no other column is: norms, rotation, SwiGLU, appending, hand-overs between threads.\n\n",
    );
    text += "| prompt | threads | a token | layers' products | output head | attention | sampling | rest |\n";
    text += "|--:|--:|--:|--:|--:|--:|--:|--:|";
    for (&threads, tokens) in threads.iter().flat_map(|threads| PROMPTS.map(|tokens| (threads, tokens))) {
        let of = |what: &str| seconds(rows, what, threads);
        let (step, layers, products) = (of(&whole(tokens))?, of(LAYERS)?, of(PRODUCTS)?);
        let (attention, sampling) = (of(&attention(tokens))?, of(SAMPLING)?);
        let token = step + sampling;
        text += &format!("\n| {tokens} | {threads} | {} |", time(token));
        for part in [layers, products - layers, attention, sampling, step - products - attention] {
            text += &format!(" {:.0}% |", 100.0 * part / token);
        }
    }
    Some(text).filter(|_| !rows.is_empty())
}

criterion_group!(benches, parts, sessions);
criterion_main!(benches);
