//! What happens once after a prompt of 7900 tokens: scoring, selection, compaction.

#![allow(missing_docs, reason = "a program")]

mod common;
mod roofline;

use std::hint::black_box;
use std::sync::LazyLock;

use common::{SMOLLM2, cache, noise};
use criterion::{Criterion, criterion_group, criterion_main};
use headwise_cache::block_layout;
use headwise_core::{Codec, Indptr, Ragged};
use headwise_kernels::image_norms::{ImageNorms, Measure};
use headwise_kernels::output_changes::{Outputs, output_changes};
use headwise_kernels::{
    Pool1d, ReuseBuffers, RowReduce, Strips, Window, WindowScores, compact, gram, key_norm, topk, topk::reference,
    topk_across_heads, weighted_sums,
};
use rayon::prelude::*;
use roofline::{Group, Work, note, seconds};

/// Slots of every head of the cache.
const SLOTS: usize = 7900;
/// Heads of all layers.
const HEADS: usize = SMOLLM2.layers * SMOLLM2.kv_heads;
/// Scores of one selection: 8 heads of 32768 slots.
const SCORES: usize = 1 << 18;

fn scoring(criterion: &mut Criterion) {
    let cache = LazyLock::new(|| cache(SMOLLM2, SLOTS));
    let keys = HEADS * SLOTS * SMOLLM2.slot_bytes(Codec::F16) / 2;
    // As in a cut.
    let _reuse = ReuseBuffers::start();
    let mut group = Group::new(criterion, "scoring, 90 heads of 7900 slots", 10, 1500);
    for rows in [8, 32] {
        let queries = noise(rows * SMOLLM2.query_heads() * SMOLLM2.head_dim);
        let positions: Vec<u32> = (SLOTS - rows..SLOTS).map(|position| position as u32).collect();
        let kernel = WindowScores { rows: RowReduce::Mean, fade: 1.0 };
        let work = Work { bytes: keys, operations: 2 * rows * SMOLLM2.group * HEADS * SLOTS * SMOLLM2.head_dim };
        group.bench(&format!("window_scores, {rows} rows"), work, || {
            let window = Window { queries: &queries, positions: &positions, query_heads: 9, scale: 0.125 };
            // Layers in parallel, as the policies have it.
            (0..SMOLLM2.layers).into_par_iter().for_each(|layer| {
                for (head, view) in cache.heads(layer).enumerate() {
                    let scores = kernel.run(&window, head, SMOLLM2.kv_heads, view, cache.positions(layer, head));
                    black_box(scores.expect("valid"));
                }
            });
        });
    }
    group.bench("key_norm", Work { bytes: keys, operations: keys }, || {
        (0..SMOLLM2.layers).into_par_iter().for_each(|layer| {
            for view in cache.heads(layer) {
                black_box(key_norm(view).expect("valid"));
            }
        });
    });
    group.finish();
}

/// What a layer's values do to its output, for policies that read W_O.
fn outputs(criterion: &mut Criterion) {
    const ROWS: usize = 32;
    let (dim, hidden, group) = (SMOLLM2.head_dim, SMOLLM2.query_heads() * SMOLLM2.head_dim, SMOLLM2.group);
    let heads = SMOLLM2.kv_heads;
    let values: Vec<Vec<f32>> = (0..heads).map(|_| noise(SLOTS * dim)).collect();
    let strips: Vec<Strips> = values.iter().map(|values| Strips::new(values, dim)).collect();
    let columns = vec![noise(hidden * dim); heads * group];
    let grams: Vec<Vec<f32>> = columns.iter().map(|of_head| gram(of_head, dim).expect("whole rows")).collect();
    let attention: Vec<f32> = noise(group * ROWS * SLOTS).iter().map(|x| x.abs() / SLOTS as f32).collect();
    let (images, squares, lengths) = (vec![0.0; ROWS * dim], vec![1.0; ROWS], vec![1.0; SLOTS]);
    let outputs = Outputs { images: &images, squares: &squares, lengths: &lengths };

    let slots = heads * SLOTS;
    let rows = Work { bytes: 4 * slots * (dim + group * ROWS), operations: 2 * group * ROWS * slots * dim };
    let mut bench = Group::new(criterion, "outputs, 3 heads of 7900 slots", 10, 600);
    bench.bench(
        "gram, of 9 heads",
        Work { bytes: 4 * 9 * hidden * dim, operations: 9 * hidden * dim * (dim + 1) },
        || {
            columns.par_iter().for_each(|of_head| drop(black_box(gram(of_head, dim).expect("whole rows"))));
        },
    );
    for (name, measure, maps, products) in
        [("form", Measure::Form, &grams, dim.div_ceil(2)), ("magnitude", Measure::Magnitude, &columns, hidden)]
    {
        let maps = ImageNorms::new(measure, maps, dim).expect("whole rows");
        let work = Work { bytes: 4 * slots * (dim + group), operations: 2 * group * slots * products * dim };
        bench.bench(&format!("image_norms, {name}"), work, || {
            strips.par_iter().enumerate().for_each(|(head, strips)| {
                black_box(maps.run(head * group..(head + 1) * group, strips).expect("heads that are there"));
            });
        });
    }
    bench.bench("weighted_sums, 32 rows", rows, || {
        values.par_iter().for_each(|values| {
            black_box(weighted_sums(&attention, values, dim).expect("whole rows"));
        });
    });
    let mut changed = vec![0.0; heads * attention.len()];
    // The copy, too, reads and writes as much.
    let rows = Work { bytes: 4 * slots * (dim + 4 * group * ROWS), ..rows };
    bench.bench("output_changes, 32 rows, and a copy of them", rows, || {
        changed.par_chunks_exact_mut(ROWS * SLOTS).enumerate().for_each(|(head, changed)| {
            changed.copy_from_slice(&attention[head % group * ROWS * SLOTS..][..ROWS * SLOTS]);
            output_changes(changed, &strips[head / group], outputs).expect("as many");
        });
    });
    bench.finish();
}

fn pooling(criterion: &mut Criterion) {
    let scores = noise(SCORES);
    let mut group = Group::new(criterion, "pool1d, 262144 scores", 10, 200);
    for (name, kernel) in [
        ("average of 5", Pool1d::Average { kernel: 5 }),
        ("max of 7", Pool1d::Max { kernel: 7 }),
        ("look-ahead of 24", Pool1d::LookAhead { span: 24, decay: 0.9 }),
    ] {
        let work = Work { bytes: 2 * 4 * SCORES, operations: 0 };
        group.bench(name, work, || drop(black_box(kernel.run(&scores).expect("valid"))));
    }
    group.finish();
}

fn selecting(criterion: &mut Criterion) {
    const KEEP: usize = SCORES / 10;
    let scores = noise(SCORES);
    let heads = Ragged::new(Indptr::from_lengths([SCORES / 8; 8]), scores.clone()).expect("eight heads");
    let work = Work { bytes: 4 * SCORES, operations: 0 };
    let mut group = Group::new(criterion, "selection, a tenth of 262144 scores", 10, 400);
    group.bench("topk", work, || drop(black_box(topk(&scores, KEEP).expect("valid"))));
    group.bench("topk_across_heads, 8 heads", work, || {
        drop(black_box(topk_across_heads(&heads, KEEP).expect("valid")));
    });
    group.bench("stable sort", work, || drop(black_box(reference::topk(&scores, KEEP))));
    let rows = group.finish();
    for what in ["topk", "topk_across_heads, 8 heads"] {
        if let (Some(kernel), Some(sort)) = (seconds(&rows, what, 1), seconds(&rows, "stable sort", 1)) {
            note(&format!("{what}: {:.1} times as fast as a stable sort, one thread.", sort / kernel));
        }
    }
}

fn compaction(criterion: &mut Criterion) {
    let layout = block_layout(SMOLLM2.head_dim, Codec::F16);
    let (block, head) = (layout.bytes(), layout.blocks_for(SLOTS) * layout.bytes());
    // As in a pool: every block at the start of a page.
    let mut memory = vec![1u8; HEADS * head + 4096];
    let start = memory.as_ptr().align_offset(4096);
    let order = noise(SLOTS);
    let mut group = Group::new(criterion, "compact, 90 heads of 7900 slots", 10, 600);
    for percent in [10, 50] {
        let keep = topk(&order, SLOTS * percent / 100).expect("no NaN");
        // Which slots survive does not depend on what is in them, so that they can be moved again and again.
        let moved = keep.iter().enumerate().filter(|&(to, &from)| to != from as usize).count();
        let bytes = 2 * HEADS * moved * SMOLLM2.slot_bytes(Codec::F16);
        group.bench(&format!("{percent}% kept"), Work { bytes, operations: 0 }, || {
            memory[start..][..HEADS * head].par_chunks_exact_mut(head).for_each(|head| {
                let mut blocks: Vec<&mut [u8]> = head.chunks_exact_mut(block).collect();
                compact(&mut blocks, layout, &keep).expect("ascending slots");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, scoring, outputs, pooling, selecting, compaction);
criterion_main!(benches);
