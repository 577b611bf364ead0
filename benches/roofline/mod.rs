//! Criterion benches that know their limits: each states the bytes that it must read and the operations that it must do, runs
//! with one thread and with all, and is shown as a share of the memory bandwidth and of the multiply-add peak that were measured
//! just before and just after it.
//!
//! Criterion does the sampling, so its filters and baselines work as ever. The tables go to the terminal and, as Markdown and JSON, to
//! `target/<host>/tmp/roofline-<bench>.{md,json}`.

#![allow(dead_code, unused_imports, reason = "each bench uses its own part")]

mod limits;
mod table;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use rayon::{ThreadPool, ThreadPoolBuilder};

use limits::{Limits, median};
pub use table::{Row, note, time};

/// One buffer and one set of pools for the whole process.
struct Machine {
    limits: Limits,
    /// One thread, all threads.
    pools: Vec<ThreadPool>,
}

static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
    let all = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut threads = vec![1, all];
    threads.dedup();
    let pool = |threads| ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    Machine { limits: Limits::new(), pools: threads.into_iter().map(pool).collect() }
});

/// Not when criterion only tries (`--test`) or lists the benches, where nothing is measured.
static MEASURING: LazyLock<bool> = LazyLock::new(|| {
    let given = |flag: &str| std::env::args().any(|arg| arg == flag);
    given("--bench") && !given("--test") && !given("--list")
});

/// What one run of a bench must do at least.
#[derive(Debug, Clone, Copy, Default)]
pub struct Work {
    /// Bytes to read (and to write, where it does), each once.
    pub bytes: usize,
    /// f32 additions and multiplications.
    pub operations: usize,
}

/// A criterion group with a table at its end.
pub struct Group<'c> {
    group: BenchmarkGroup<'c, WallTime>,
    name: String,
    samples: usize,
    rows: Vec<Row>,
}

impl<'c> Group<'c> {
    /// `samples` (at least 10) of each bench in about `milliseconds`, after a quarter of that to warm up.
    pub fn new(criterion: &'c mut Criterion, name: &str, samples: usize, milliseconds: u64) -> Self {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(samples).sampling_mode(SamplingMode::Flat).nresamples(2000);
        group.warm_up_time(Duration::from_millis(milliseconds / 4));
        group.measurement_time(Duration::from_millis(milliseconds));
        Self { group, name: name.into(), samples, rows: Vec::new() }
    }

    /// Times `step` with one thread and with all.
    pub fn bench(&mut self, shape: &str, work: Work, mut step: impl FnMut() + Send) {
        self.bench_runs(shape, work, |runs| {
            let start = Instant::now();
            (0..runs).for_each(|_| step());
            start.elapsed()
        });
    }

    /// The same for a step that tells how long it took, because not all of it counts.
    pub fn bench_timed(&mut self, shape: &str, work: Work, mut step: impl FnMut() -> Duration + Send) {
        self.bench_runs(shape, work, |runs| (0..runs).map(|_| step()).sum());
    }

    fn bench_runs(&mut self, shape: &str, work: Work, mut time: impl FnMut(u64) -> Duration + Send) {
        let (bytes, operations) = (work.bytes as u64, work.operations as u64);
        self.group.throughput(match operations {
            0 => Throughput::Bytes(bytes),
            _ => Throughput::ElementsAndBytes { elements: operations, bytes },
        });
        for pool in &MACHINE.pools {
            let threads = pool.current_num_threads();
            let id =
                BenchmarkId::new(shape, if threads == 1 { "1 thread".into() } else { format!("{threads} threads") });
            let mut seconds = Vec::new();
            let mut before = None;
            self.group.bench_function(id, |bencher| {
                // Here, because this does not run where a filter leaves the bench out.
                if *MEASURING && before.is_none() {
                    // Whatever the first run makes for all is not part of the warm-up, by which criterion plans.
                    pool.install(|| time(1));
                    before = Some(MACHINE.limits.measure(pool));
                }
                bencher.iter_custom(|runs| {
                    let elapsed = pool.install(|| time(runs));
                    seconds.push(elapsed.as_secs_f64() / runs as f64);
                    elapsed
                });
            });
            let Some(before) = before else { continue };
            let limits = before.and(&MACHINE.limits.measure(pool));
            // Criterion's warm-up comes first.
            let samples = seconds.split_off(seconds.len().saturating_sub(self.samples));
            self.rows.push(Row {
                shape: shape.into(),
                threads,
                seconds: median(samples),
                work,
                bandwidth: limits.bandwidth(),
                small_pages: limits.small_pages(),
                peak: limits.peak(),
            });
        }
    }

    /// Shows the table and gives its rows.
    pub fn finish(self) -> Vec<Row> {
        self.group.finish();
        if !self.rows.is_empty() {
            table::publish(&self.name, &self.rows);
        }
        self.rows
    }
}

/// Seconds of a row, where it was measured.
pub fn seconds(rows: &[Row], shape: &str, threads: usize) -> Option<f64> {
    rows.iter().find(|row| row.shape == shape && row.threads == threads).map(|row| row.seconds)
}
