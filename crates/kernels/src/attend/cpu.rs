//! Attention on the CPU: cuts the jobs into independent tasks by sizes alone (never by the number of threads), runs them on
//! rayon, and merges their partial results in a fixed order. Once its buffers have grown it allocates nothing.

use super::decode::{Part, decode_part};
use super::partial::{Sum, Sums, divide, inverse};
use super::prefill::{QUERY_TILE, prefill_tile};
use super::{ColumnReduce, Columns, Dims, HeadQuery, Job, Partial, Query};
use crate::simd::Level;
use crate::{AnyHead, Block, CacheLines};
use headwise_core::{Error, Result};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Up to this many rows are split over slots, more are split over queries.
pub const DECODE_ROWS: usize = 8;

/// Slots of one decode task, to be rounded to whole blocks.
const PART: usize = 512;

/// Tasks that the rows of a KV head are split into at most where columns are asked for: each has columns of its own.
const STRANDS: usize = 8;

/// Multiplications below which waking other threads costs more than it saves.
const PARALLEL_FROM: usize = 200_000;

/// Attention of the rows `rows` of one KV head's query group over the blocks `blocks`.
struct Task {
    job: usize,
    head: usize,
    rows: Range<usize>,
    blocks: Range<usize>,
    dims: Dims,
    /// Where the columns of the KV head begin in those of the job, if they are asked for, and how many numbers this task has for them: the
    /// prefill way `[group][slots]`, the decode way `[rows][group]` maxima and the weights of the part, `[rows][group][slots]`.
    columns: Option<(usize, usize)>,
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
    /// More than one where a thread that waits for others was handed another call.
    static PLANS: RefCell<Vec<Plan>> = const { RefCell::new(Vec::new()) };
    /// What a task works with.
    static SCRATCH: RefCell<CacheLines> = const { RefCell::new(CacheLines::new()) };
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
        plan.run(level, jobs.len(), |job| (&jobs[job].query, jobs[job].columns.as_ref()))?;
        plan.merge(|task, at, sum| {
            let head_dim = task.dims.head_dim;
            let out = &mut jobs[task.job].out[at * head_dim..][..head_dim];
            out.copy_from_slice(sum.numerator);
            divide(out, *sum.denominator);
        });
        plan.add_columns(jobs);
        Ok(())
    })
}

/// See [`super::attend_partial`].
pub fn attend_partial<B: Block>(level: Level, query: Query<'_, B>) -> Result<Partial> {
    with_plan(|plan| {
        plan.run(level, 1, |_| (&query, None))?;
        let head_dim = query.heads[0].layout.head_dim;
        let mut out = Partial::empty(query.q.len() / head_dim, head_dim);
        plan.merge(|_, at, sum| out.query(at, head_dim).copy(&sum));
        Ok(out)
    })
}

fn with_plan<R>(body: impl FnOnce(&mut Plan) -> R) -> R {
    let mut plan = PLANS.with_borrow_mut(Vec::pop).unwrap_or_default();
    let result = body(&mut plan);
    PLANS.with_borrow_mut(|plans| plans.push(plan));
    result
}

impl Plan {
    /// Attention of `count` queries, each split into tasks that lie one after another. With a query comes what is wanted of its weights.
    fn run<'a, B: Block + 'a>(
        &mut self,
        level: Level,
        count: usize,
        query: impl Fn(usize) -> (&'a Query<'a, B>, Option<&'a Columns<'a>>) + Sync,
    ) -> Result<()> {
        self.tasks.clear();
        let mut work = 0usize;
        for job in 0..count {
            let (query, columns) = query(job);
            let dims = query.check()?;
            if let Some(columns) = columns {
                columns.check(query, dims)?;
            }
            let mut at = 0;
            for (head, view) in query.heads.iter().enumerate() {
                work = work.saturating_add(query.rows * dims.group * dims.head_dim * view.len);
                self.split(job, head, query, dims, columns.map(|_| at));
                at += dims.group * view.len;
            }
        }
        let place = self.tasks.iter().map(Task::result_len).max().unwrap_or(1);
        if self.results.len() < self.tasks.len() * place {
            self.results.resize(self.tasks.len() * place, 0.0);
        }
        self.place = place;
        let tasks = &self.tasks;
        let attend = |(index, memory): (usize, &mut [f32])| {
            let task = &tasks[index];
            let then = tasks.get(index + 1).map(|next| (query(next.job).0.heads[next.head].any(), next.blocks.start));
            let (query, columns) = query(task.job);
            let query = query.of_head(task.head);
            SCRATCH.with_borrow_mut(|scratch| task.run(level, &query, columns, then, scratch, memory));
        };
        let results = &mut self.results[..tasks.len() * place];
        if work < PARALLEL_FROM {
            results.chunks_exact_mut(place).enumerate().for_each(attend);
        } else {
            results.par_chunks_exact_mut(place).enumerate().with_max_len(1).for_each(attend);
        }
        Ok(())
    }

    /// The tasks of one KV head of a query, whose columns begin at `columns` if they are asked for.
    fn split<B: Block>(&mut self, job: usize, head: usize, query: &Query<'_, B>, dims: Dims, columns: Option<usize>) {
        let view = query.heads[head];
        let all = view.block_count();
        if query.rows <= DECODE_ROWS {
            let step = (PART / view.layout.slots).max(1);
            self.tasks.extend((0..all).step_by(step).map(|start| {
                let blocks = start..(start + step).min(all);
                let len = query.rows * dims.group * (1 + blocks.len() * view.layout.slots);
                Task { job, head, rows: 0..query.rows, blocks, dims, columns: columns.map(|at| (at, len)) }
            }));
        } else {
            let tile = tile_rows(dims);
            let step = if columns.is_some() { query.rows.div_ceil(STRANDS).next_multiple_of(tile) } else { tile };
            self.tasks.extend((0..query.rows).step_by(step).map(|start| {
                let rows = start..(start + step).min(query.rows);
                Task { job, head, rows, blocks: 0..all, dims, columns: columns.map(|at| (at, dims.group * view.len)) }
            }));
        }
    }

    /// Hands over the result of every query of every row, merged over the slots: `take(one of its tasks, row · query heads + query
    /// head, result)`.
    fn merge(&mut self, mut take: impl FnMut(&Task, usize, Sum<'_>)) {
        let mut rest = &mut self.results[..];
        for parts in self.tasks.chunk_by(Task::is_part_of_the_same) {
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

    /// Adds what the slots get to the columns of the jobs that ask for them, after [`Plan::merge`].
    fn add_columns<B>(&mut self, jobs: &mut [Job<'_, B>]) {
        let mut rest = &mut self.results[..];
        for parts in self.tasks.chunk_by(Task::is_part_of_the_same) {
            let (memory, after) = std::mem::take(&mut rest).split_at_mut(parts.len() * self.place);
            rest = after;
            let job = &mut jobs[parts[0].job];
            let (Some((at, _)), Some(columns)) = (parts[0].columns, &mut job.columns) else { continue };
            let view = &job.query.heads[parts[0].head];
            let Columns { reduce, ref mut out, factors } = *columns;
            let out = &mut out[at..][..parts[0].dims.group * view.len];
            if job.query.rows <= DECODE_ROWS {
                add_parts(parts, memory, self.place, view.layout.slots, reduce, factors, out, view.len);
            } else {
                reduce.join(out, &parts[0].columns(memory)[..out.len()], 1.0);
            }
        }
    }
}

/// Adds the weights of the parts of a head, now that the maxima and denominators of its queries are known, to `out`, `[group][len]`.
#[allow(clippy::too_many_arguments)]
fn add_parts(
    parts: &[Task],
    memory: &mut [f32],
    place: usize,
    block_slots: usize,
    reduce: ColumnReduce,
    row_factors: Option<&[f32]>,
    out: &mut [f32],
    len: usize,
) {
    let Task { rows, dims: Dims { group, head_dim, .. }, .. } = &parts[0];
    let count = rows.len() * group;
    let (first, others) = memory.split_at_mut(place);
    let (first, first_columns) = first.split_at_mut(Sums::len(count, *head_dim));
    let merged = Sums::split(first, count, *head_dim);
    let others = others.chunks_exact(place).map(|memory| &memory[Sums::len(count, *head_dim)..]);
    for (part, columns) in parts.iter().zip(std::iter::once(&*first_columns).chain(others)) {
        let (maxima, weights) = columns.split_at(count);
        let start = part.blocks.start * block_slots;
        let stride = part.blocks.len() * block_slots;
        for i in 0..count {
            // As in the softmax: with a finite base -∞ - base stays -∞.
            let base = |max: f32| max.max(f32::MIN);
            let factor = (base(maxima[i]) - base(merged.max[i])).exp() * inverse(merged.denominator[i]);
            let factor = factor * row_factors.map_or(1.0, |factors| factors[i / group]);
            reduce.join(&mut out[i % group * len..][..len][start..], &weights[i * stride..][..stride], factor);
        }
    }
}

/// Rows of a tile of queries.
fn tile_rows(dims: Dims) -> usize {
    (QUERY_TILE / dims.group).max(1)
}

impl Task {
    /// Both see other slots for the same queries.
    fn is_part_of_the_same(&self, other: &Task) -> bool {
        (self.job, self.head, &self.rows) == (other.job, other.head, &other.rows)
    }

    /// Numbers that its result takes.
    fn result_len(&self) -> usize {
        Sums::len(self.rows.len() * self.dims.group, self.dims.head_dim) + self.columns.map_or(0, |(_, len)| len)
    }

    /// What a result has for the columns.
    fn columns<'a>(&self, memory: &'a mut [f32]) -> &'a mut [f32] {
        let before = Sums::len(self.rows.len() * self.dims.group, self.dims.head_dim);
        &mut memory[before..][..self.columns.map_or(0, |(_, len)| len)]
    }

    fn run(
        &self,
        level: Level,
        query: &HeadQuery<'_>,
        wanted: Option<&Columns<'_>>,
        then: Option<(AnyHead<'_>, usize)>,
        scratch: &mut CacheLines,
        memory: &mut [f32],
    ) {
        let Dims { group, head_dim, .. } = self.dims;
        let count = self.rows.len() * group;
        let (results, columns) = memory.split_at_mut(Sums::len(count, head_dim));
        let mut out = Sums::split(results, count, head_dim);
        let mut columns = self.columns.map(|(_, len)| &mut columns[..len]);
        if query.rows <= DECODE_ROWS {
            let (maxima, weights) = columns.map(|columns| columns.split_at_mut(count)).unzip();
            let whole = out.part(0..count, head_dim);
            let of = Part { blocks: self.blocks.clone(), then };
            decode_part(level, query, self.dims, of, scratch, whole, weights);
            if let Some(maxima) = maxima {
                maxima.copy_from_slice(out.max);
            }
            return;
        }
        if let Some(columns) = &mut columns {
            columns.fill(0.0);
        }
        for start in self.rows.clone().step_by(tile_rows(self.dims)) {
            let rows = start..(start + tile_rows(self.dims)).min(self.rows.end);
            let out = out.part((rows.start - self.rows.start) * group..(rows.end - self.rows.start) * group, head_dim);
            let columns = wanted.zip(columns.as_deref_mut()).map(|(Columns { reduce, factors, .. }, out)| Columns {
                reduce: *reduce,
                out,
                factors: *factors,
            });
            prefill_tile(level, query, self.dims, rows, scratch, out, columns);
        }
    }
}

impl Columns<'_> {
    fn check<B: Block>(&self, query: &Query<'_, B>, dims: Dims) -> Result<()> {
        let lengths = [
            ("columns", dims.group * query.heads.iter().map(|head| head.len).sum::<usize>(), self.out.len()),
            ("factors of rows", query.rows, self.factors.map_or(query.rows, <[f32]>::len)),
        ];
        match lengths.into_iter().find(|(_, expected, got)| expected != got) {
            Some((what, expected, got)) => {
                Err(Error::ShapeMismatch { what: what.into(), expected: vec![expected], got: vec![got] })
            }
            None => Ok(()),
        }
    }
}

impl ColumnReduce {
    /// Takes `weights` times `factor` into `columns`.
    fn join(self, columns: &mut [f32], weights: &[f32], factor: f32) {
        let pairs = columns.iter_mut().zip(weights);
        match self {
            Self::Sum => pairs.for_each(|(column, weight)| *column += weight * factor),
            Self::Max => pairs.for_each(|(column, weight)| *column = column.max(weight * factor)),
        }
    }
}
