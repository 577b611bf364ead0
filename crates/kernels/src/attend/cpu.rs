//! Attention on the CPU: cuts the jobs into independent tasks by sizes alone (never by the number of threads), runs them on
//! rayon, and merges their partial results in a fixed order. Once its buffers have grown it allocates nothing.

use super::decode::decode_part;
use super::partial::{Sum, Sums, divide};
use super::prefill::{QUERY_TILE, prefill_tile};
use super::{Dims, Job, Partial, Query};
use crate::Block;
use crate::simd::Level;
use headwise_core::{Error, Result};
use rayon::prelude::*;
use std::cell::RefCell;
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
    dims: Dims,
}

/// What a call works with, kept from call to call.
#[derive(Default)]
struct Plan {
    tasks: Vec<Task>,
    /// The results of the tasks, each in a place of the same size.
    results: Vec<f32>,
    /// That size.
    place: usize,
}

thread_local! {
    static PLAN: RefCell<Plan> = RefCell::default();
    /// What a task works with.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// See [`super::attend_batch`].
pub fn attend_batch<B: Block>(level: Level, jobs: &mut [Job<'_, B>]) -> Result<()> {
    for job in jobs.iter() {
        if job.out.len() != job.query.q.len() {
            return Err(Error::ShapeMismatch {
                what: "out".into(),
                expected: vec![job.query.q.len()],
                got: vec![job.out.len()],
            });
        }
    }
    with_plan(|plan| {
        plan.run(level, jobs.len(), |job| &jobs[job].query)?;
        plan.merge(|task, at, sum| {
            let head_dim = task.dims.head_dim;
            let out = &mut jobs[task.job].out[at * head_dim..][..head_dim];
            out.copy_from_slice(sum.numerator);
            divide(out, *sum.denominator);
        });
        Ok(())
    })
}

/// See [`super::attend_partial`].
pub fn attend_partial<B: Block>(level: Level, query: Query<'_, B>) -> Result<Partial> {
    with_plan(|plan| {
        plan.run(level, 1, |_| &query)?;
        let head_dim = query.heads[0].layout.head_dim;
        let mut out = Partial::empty(query.q.len() / head_dim, head_dim);
        plan.merge(|_, at, sum| out.query(at, head_dim).copy(&sum));
        Ok(out)
    })
}

/// The plan is taken, not borrowed: while this thread waits for others it may be handed another call.
fn with_plan<R>(body: impl FnOnce(&mut Plan) -> R) -> R {
    let mut plan = PLAN.take();
    let result = body(&mut plan);
    PLAN.set(plan);
    result
}

impl Plan {
    /// Attention of `count` queries, each split into tasks that lie one after another.
    fn run<'a, B: Block + 'a>(
        &mut self,
        level: Level,
        count: usize,
        query: impl Fn(usize) -> &'a Query<'a, B> + Sync,
    ) -> Result<()> {
        self.tasks.clear();
        let mut work = 0usize;
        for job in 0..count {
            let query = query(job);
            let dims = query.check()?;
            for (head, view) in query.heads.iter().enumerate() {
                work = work.saturating_add(query.rows * dims.group * dims.head_dim * view.len);
                self.split(job, head, query, dims);
            }
        }
        let place = self.tasks.iter().map(Task::result_len).max().unwrap_or(1);
        if self.results.len() < self.tasks.len() * place {
            self.results.resize(self.tasks.len() * place, 0.0);
        }
        self.place = place;
        let attend = |(task, memory): (&Task, &mut [f32])| {
            let (query, Dims { group, head_dim, .. }) = (query(task.job), task.dims);
            let out = Sums::split(memory, task.rows.len() * group, head_dim);
            SCRATCH.with_borrow_mut(|scratch| match query.rows <= DECODE_ROWS {
                true => decode_part(level, query, task.dims, task.head, task.blocks.clone(), scratch, out),
                false => prefill_tile(level, query, task.dims, task.head, task.rows.clone(), scratch, out),
            });
        };
        if work < PARALLEL_FROM {
            self.tasks.iter().zip(self.results.chunks_exact_mut(place)).for_each(attend);
        } else {
            self.tasks.par_iter().zip(self.results.par_chunks_exact_mut(place)).with_max_len(1).for_each(attend);
        }
        Ok(())
    }

    /// The tasks of one KV head of a query.
    fn split<B: Block>(&mut self, job: usize, head: usize, query: &Query<'_, B>, dims: Dims) {
        let view = query.heads[head];
        let all = view.block_count();
        if query.rows <= DECODE_ROWS {
            let step = (PART / view.layout.slots).max(1);
            self.tasks.extend((0..all).step_by(step).map(|start| {
                let blocks = start..(start + step).min(all);
                Task { job, head, rows: 0..query.rows, blocks, dims }
            }));
        } else {
            let step = (QUERY_TILE / dims.group).max(1);
            self.tasks.extend((0..query.rows).step_by(step).map(|start| {
                let rows = start..(start + step).min(query.rows);
                Task { job, head, rows, blocks: 0..all, dims }
            }));
        }
    }

    /// Hands over the result of every query of every row, merged over the slots: `take(one of its tasks, row · query heads + query
    /// head, result)`.
    fn merge(&mut self, mut take: impl FnMut(&Task, usize, Sum<'_>)) {
        let mut rest = &mut self.results[..];
        for parts in self.tasks.chunk_by(|a, b| (a.job, a.head, &a.rows) == (b.job, b.head, &b.rows)) {
            let (memory, after) = std::mem::take(&mut rest).split_at_mut(parts.len() * self.place);
            rest = after;
            let (first, others) = memory.split_at_mut(self.place);
            let Task { head, rows, dims: Dims { query_heads, group, head_dim }, .. } = &parts[0];
            let count = rows.len() * group;
            let mut sums = Sums::split(first, count, *head_dim);
            for other in others.chunks_exact_mut(self.place) {
                let mut other = Sums::split(other, count, *head_dim);
                (0..count).for_each(|i| sums.query(i, *head_dim).merge(&other.query(i, *head_dim)));
            }
            for i in 0..count {
                let at = (rows.start + i / group) * query_heads + head * group + i % group;
                take(&parts[0], at, sums.query(i, *head_dim));
            }
        }
    }
}

impl Task {
    fn result_len(&self) -> usize {
        Sums::len(self.rows.len() * self.dims.group, self.dims.head_dim)
    }
}
