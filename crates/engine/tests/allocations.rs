//! A steady decode step allocates nothing: not in the pass, not for the window and the running sums, not for the draw. What the cache grows by, a block
//! for each head now and then, is all there is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use headwise_cache::{BlockPool, KvCache, block_layout};
use headwise_core::{Codec, recycle};
use headwise_engine::{Observer, Sampler, SamplerOptions};
use headwise_model::{Model, Span, Wanted, Workspace};
use headwise_policy::Needs;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// Counts what all threads allocate.
struct Counting;

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller vouches.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller vouches.
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller vouches.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Feeds `prompt` tokens to each of `sessions`, decodes 96 tokens with all of them together, and gives the allocations of every step
/// with the number of blocks that it took.
fn steps(sessions: usize, prompt: usize, options: &SamplerOptions) -> Vec<(usize, usize)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit/golden-models/llama");
    let model = Model::load(&path, &mut |_| {}).unwrap();
    let pool = BlockPool::new(block_layout(model.shape().head_dim, Codec::F16), None).unwrap();
    let mut caches: Vec<_> = (0..sessions).map(|_| KvCache::new(pool.clone(), model.shape()).unwrap()).collect();
    let needs = Needs { window_queries: 64, running_sums: true, ..Needs::default() };
    let mut observers: Vec<_> = (0..sessions).map(|_| Observer::new(model.shape(), &needs)).collect();
    let mut samplers: Vec<_> = (0..sessions).map(|_| Sampler::new(options.clone()).unwrap()).collect();
    let (mut space, seen) = (Workspace::default(), HashSet::from([3, 5]));
    let mut kept: Vec<Span<'static>> = Vec::new();
    let mut tokens = vec![0; sessions];
    let mut step =
        |prompt: Option<&[u32]>| {
            let before = (ALLOCATIONS.load(Ordering::Relaxed), pool.held_bytes());
            let mut spans: Vec<Span<'_>> = recycle(std::mem::take(&mut kept));
            spans.extend(caches.iter_mut().zip(&mut observers).zip(tokens.chunks(1)).map(|((cache, tap), token)| {
                Span { tokens: prompt.unwrap_or(token), cache, tap, logits: Wanted::Last }
            }));
            let logits = model.forward(&mut spans, &mut space, None).unwrap();
            kept = recycle(spans);
            for (i, token) in tokens.iter_mut().enumerate() {
                *token = samplers[i].sample(logits.span(i), &seen).unwrap();
            }
            observers.iter_mut().for_each(Observer::commit);
            let blocks = (pool.held_bytes() - before.1) / pool.block_bytes();
            (ALLOCATIONS.load(Ordering::Relaxed) - before.0, blocks)
        };
    let first: Vec<u32> = (0..prompt as u32).map(|i| i * 31 % 300).collect();
    step(Some(&first));
    (0..96).map(|_| step(None)).collect()
}

/// One test, because the counter sees every thread.
#[test]
fn steady_decode_steps_allocate_nothing() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let greedy = SamplerOptions { repetition_penalty: 1.1, ..Default::default() };
    let drawn = SamplerOptions { temperature: 0.8, top_k: 40, top_p: 0.9, min_p: 0.05, ..Default::default() };
    // Long enough that attention and products are handed to other threads.
    for (sessions, prompt, options) in [(1, 700, &greedy), (1, 700, &drawn), (8, 700, &drawn)] {
        // A thread that waits for others may be handed another call, which has buffers of its own and grows them when that first happens. On a busy
        // machine that may be late, so what is looked for is a whole run without an allocation, of three on the same threads.
        let mut runs = (0..3).map(|_| pool.install(|| steps(sessions, prompt, options)));
        let mut last = Vec::new();
        let steady_is_free = runs.any(|steps| {
            // Two steps of warming up: the first decode step, and the first of its kind of draw.
            let steady: Vec<_> = steps[2..].iter().filter(|(_, blocks)| *blocks == 0).collect();
            assert!(steady.len() > 80, "{steps:?}");
            let free = steady.iter().all(|(allocations, _)| *allocations == 0);
            last = steps;
            free
        });
        let steps = last;
        assert!(steady_is_free, "{sessions} sessions: {steps:?}");
        // A block's reference count, and lists that grow: block tables, positions.
        let growing: Vec<_> = steps[2..].iter().filter(|(_, blocks)| *blocks > 0).collect();
        assert!(!growing.is_empty() && growing.iter().all(|(count, blocks)| *count <= 4 * blocks), "{steps:?}");
    }
}
