//! Attention on the CPU: cuts the jobs into independent tasks by sizes alone (never by the number of threads), runs them on
//! rayon, and merges their partial results in a fixed order.

use super::decode::decode_part;
use super::prefill::{QUERY_TILE, prefill_tile};
use super::{Dims, Job, Partial, Query};
use crate::Block;
use crate::simd::Level;
use headwise_core::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;

/// Up to this many rows are split over slots, more are split over queries.
pub const DECODE_ROWS: usize = 8;

/// Slots of one decode task, to be rounded to whole blocks.
const PART: usize = 512;

/// Multiplications below which waking other threads costs more than it saves.
const PARALLEL_FROM: usize = 200_000;

/// Attention of the rows `rows` of one KV head's query group over the blocks `blocks`.
struct Task {
    job: usize,
    head: usize,
    rows: Range<usize>,
    blocks: Range<usize>,
}

/// See [`super::attend_batch`].
pub fn attend_batch<B: Block>(level: Level, jobs: &mut [Job<'_, B>]) -> Result<()> {
    let queries: Vec<Query<'_, B>> = jobs.iter().map(|job| job.query).collect();
    let dims = queries.iter().map(Query::check).collect::<Result<Vec<_>>>()?;
    for job in jobs.iter() {
        if job.out.len() != job.query.q.len() {
            return Err(Error::ShapeMismatch {
                what: "out".into(),
                expected: vec![job.query.q.len()],
                got: vec![job.out.len()],
            });
        }
    }
    for (task, partial) in run(level, &queries, &dims)? {
        let Dims { query_heads, group, head_dim } = dims[task.job];
        let out = &mut jobs[task.job].out;
        for (i, row) in task.rows.clone().enumerate() {
            for g in 0..group {
                let at = row * query_heads + task.head * group + g;
                partial.finish(i * group + g, &mut out[at * head_dim..][..head_dim]);
            }
        }
    }
    Ok(())
}

/// See [`super::attend_partial`].
pub fn attend_partial<B: Block>(level: Level, query: Query<'_, B>) -> Result<Partial> {
    let dims = query.check()?;
    let Dims { query_heads, group, head_dim } = dims;
    let mut out = Partial::empty(query.rows * query_heads, head_dim);
    for (task, partial) in run(level, &[query], &[dims])? {
        for (i, row) in task.rows.clone().enumerate() {
            for g in 0..group {
                let at = row * query_heads + task.head * group + g;
                out.copy_query(at, &partial, i * group + g, head_dim);
            }
        }
    }
    Ok(out)
}

/// Partial results over all slots, one per (job, KV head, rows), each `[rows][group]`.
fn run<B: Block>(level: Level, queries: &[Query<'_, B>], dims: &[Dims]) -> Result<Vec<(Task, Partial)>> {
    let mut tasks = Vec::new();
    let mut work = 0usize;
    for (job, (query, dims)) in queries.iter().zip(dims).enumerate() {
        for (head, view) in query.heads.iter().enumerate() {
            work = work.saturating_add(query.rows * dims.group * dims.head_dim * view.len);
            let blocks = 0..view.block_count();
            if query.rows <= DECODE_ROWS {
                let step = (PART / view.layout.slots).max(1);
                tasks.extend(blocks.clone().step_by(step).map(|start| {
                    let blocks = start..(start + step).min(blocks.end);
                    Task { job, head, rows: 0..query.rows, blocks }
                }));
            } else {
                let step = (QUERY_TILE / dims.group).max(1);
                tasks.extend((0..query.rows).step_by(step).map(|start| {
                    let rows = start..(start + step).min(query.rows);
                    Task { job, head, rows, blocks: blocks.clone() }
                }));
            }
        }
    }
    let attend = |task: &Task| {
        let query = &queries[task.job];
        if query.rows <= DECODE_ROWS {
            decode_part(level, query, dims[task.job], task.head, task.blocks.clone())
        } else {
            prefill_tile(level, query, dims[task.job], task.head, task.rows.clone())
        }
    };
    let partials: Vec<Partial> = if work < PARALLEL_FROM {
        tasks.iter().map(attend).collect()
    } else {
        tasks.par_iter().with_max_len(1).map(attend).collect()
    };
    let mut merged: Vec<(Task, Partial)> = Vec::new();
    for (task, partial) in tasks.into_iter().zip(partials) {
        match merged.last_mut() {
            Some((last, sum)) if (last.job, last.head, &last.rows) == (task.job, task.head, &task.rows) => {
                sum.merge(&partial)?;
            }
            _ => merged.push((task, partial)),
        }
    }
    Ok(merged)
}
