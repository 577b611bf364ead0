//! What a forward pass promises: the same numbers alone and in company, and caches that are whole after every error.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{golden, scratch, tiny_llama};
use headwise_cache::{BlockPool, KvCache, block_layout};
use headwise_core::{Codec, Error, Ragged, Selection};
use headwise_model::{LayerStep, LayerTap, Model, NoTap, Span, Wanted, Workspace};

fn model() -> Model {
    Model::load(&golden("qwen3"), &mut |_| {}).unwrap()
}

fn limited_cache(model: &Model, limit: Option<usize>) -> KvCache {
    let pool = BlockPool::new(block_layout(model.shape().head_dim, Codec::F32), limit).unwrap();
    KvCache::new(pool, model.shape()).unwrap()
}

fn cache(model: &Model) -> KvCache {
    limited_cache(model, None)
}

fn tokens(from: u32, count: u32) -> Vec<u32> {
    (from..from + count).map(|i| i * 7919 % 320).collect()
}

fn run(model: &Model, cache: &mut KvCache, tokens: &[u32], logits: Wanted) -> Vec<f32> {
    let span = Span { tokens, cache, tap: &mut NoTap, logits };
    model.forward(&mut [span], &mut Workspace::default(), None).unwrap().span(0).to_vec()
}

/// Everything that a layer showed.
#[derive(Default)]
struct Record {
    steps: Vec<(usize, u32, usize)>,
    queries: Vec<Vec<f32>>,
}

impl LayerTap for Record {
    fn layer(&mut self, step: &LayerStep<'_>) {
        self.steps.push((step.layer, step.first_position, step.rows));
        self.queries.resize(self.queries.len().max(step.layer + 1), Vec::new());
        self.queries[step.layer].extend(step.queries);
    }
}

#[test]
fn wanting_fewer_logits_changes_nothing_else() {
    let model = model();
    let vocab = model.vocab_size();
    let prompt = tokens(1, 40);
    let [mut all, mut last, mut none] = [cache(&model), cache(&model), cache(&model)];
    let everything = run(&model, &mut all, &prompt, Wanted::All);
    let of_last = run(&model, &mut last, &prompt, Wanted::Last);
    assert!(run(&model, &mut none, &prompt, Wanted::None).is_empty());
    assert_eq!((everything.len(), of_last.len()), (40 * vocab, vocab));
    for (a, b) in everything[39 * vocab..].iter().zip(&of_last) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
    let after = [all, last, none].map(|mut cache| run(&model, &mut cache, &[5], Wanted::Last));
    assert_eq!(after[0], after[1]);
    assert_eq!(after[0], after[2]);
}

#[test]
fn a_sequence_gives_the_same_bits_alone_and_in_a_batch() {
    let model = model();
    let prompts = [tokens(3, 1), tokens(11, 23), tokens(70, 5), tokens(90, 1), tokens(5, 64)];
    let pasts = [9, 0, 30, 1, 2];
    let start = |past: u32| {
        let mut cache = cache(&model);
        if past > 0 {
            run(&model, &mut cache, &tokens(200, past), Wanted::None);
        }
        cache
    };
    let wanted = [Wanted::Last, Wanted::All, Wanted::None, Wanted::Last, Wanted::Last];
    let mut caches = pasts.map(start);
    let mut taps: [Record; 5] = Default::default();
    let mut spans: Vec<Span<'_>> = caches
        .iter_mut()
        .zip(&prompts)
        .zip(&mut taps)
        .zip(wanted)
        .map(|(((cache, tokens), tap), logits)| Span { tokens, cache, tap, logits })
        .collect();
    let mut space = Workspace::default();
    let together = model.forward(&mut spans, &mut space, None).unwrap();
    for i in 0..5 {
        let mut alone = start(pasts[i]);
        let mut tap = Record::default();
        let span = Span { tokens: &prompts[i], cache: &mut alone, tap: &mut tap, logits: wanted[i] };
        let mut space = Workspace::default();
        let logits = model.forward(&mut [span], &mut space, None).unwrap();
        assert_eq!(together.span(i), logits.span(0), "span {i}");
        assert_eq!((&taps[i].steps, &taps[i].queries), (&tap.steps, &tap.queries), "span {i}");
        let next = [&mut caches[i], &mut alone].map(|cache| run(&model, cache, &[17], Wanted::Last));
        assert_eq!(next[0], next[1], "token after span {i}");
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let model = model();
    let in_pool = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut cache = cache(&model);
            let mut logits = run(&model, &mut cache, &tokens(1, 300), Wanted::All);
            logits.extend(run(&model, &mut cache, &[9], Wanted::Last));
            logits
        })
    };
    let one = in_pool(1);
    assert_eq!(one, in_pool(2));
    assert_eq!(one, in_pool(5));
}

/// The next token of each of nine sequences, which two threads take in two teams; one of them wants no logits.
fn next_of_nine(model: &Model, caches: &mut [KvCache], threads: usize) -> Result<Vec<Vec<f32>>, Error> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let next = tokens(50, 9);
    let mut taps = vec![NoTap; 9];
    let mut spans: Vec<Span<'_>> = (caches.iter_mut().zip(&mut taps).zip(next.chunks(1)).enumerate())
        .map(|(i, ((cache, tap), tokens))| Span {
            tokens,
            cache,
            tap,
            logits: if i == 3 { Wanted::None } else { Wanted::Last },
        })
        .collect();
    let mut space = Workspace::default();
    let logits = pool.install(|| model.forward(&mut spans, &mut space, None))?;
    Ok((0..9).map(|i| logits.span(i).to_vec()).collect())
}

#[test]
fn sequences_give_the_same_bits_alone_and_in_teams() {
    let model = model();
    let start = || -> Vec<KvCache> {
        let mut caches: Vec<_> = (0..9).map(|_| cache(&model)).collect();
        for (i, cache) in caches.iter_mut().enumerate() {
            run(&model, cache, &tokens(7 * i as u32, 5 + 40 * i as u32), Wanted::None);
        }
        caches
    };
    let mut caches = start();
    let teams = next_of_nine(&model, &mut caches, 2).unwrap();
    assert_eq!(teams, next_of_nine(&model, &mut start(), 1).unwrap());
    for (i, cache) in start().iter_mut().enumerate() {
        let wanted = if i == 3 { Wanted::None } else { Wanted::Last };
        assert_eq!(teams[i], run(&model, cache, &tokens(50, 9)[i..=i], wanted), "sequence {i}");
        assert_eq!(run(&model, &mut caches[i], &[17], Wanted::Last), run(&model, cache, &[17], Wanted::Last));
    }
}

#[test]
fn where_one_team_finds_no_room_no_cache_changes() {
    let model = model();
    let shape = model.shape();
    let layout = block_layout(shape.head_dim, Codec::F32);
    for full in [1, 7] {
        // The blocks of the full one are used up to the last slot, and there are no more.
        let limit = |i: usize| (i == full).then(|| shape.layers * shape.kv_heads * layout.bytes());
        let mut caches: Vec<_> = (0..9).map(|i| limited_cache(&model, limit(i))).collect();
        let past = layout.slots as u32;
        caches.iter_mut().for_each(|cache| drop(run(&model, cache, &tokens(3, past), Wanted::None)));
        let result = next_of_nine(&model, &mut caches, 2);
        assert!(matches!(result, Err(Error::KvBudgetExceeded { .. })), "{result:?}");
        assert!(caches.iter().all(|cache| cache.next_position() == past));
        let mut untouched = cache(&model);
        run(&model, &mut untouched, &tokens(3, past), Wanted::None);
        let expected = run(&model, &mut untouched, &[9], Wanted::Last);
        for cache in caches.iter_mut().enumerate().filter(|(i, _)| *i != full).map(|(_, cache)| cache) {
            assert_eq!(run(&model, cache, &[9], Wanted::Last), expected);
        }
    }
}

#[test]
fn a_reused_workspace_leaves_nothing_behind() {
    let model = model();
    let mut space = Workspace::default();
    let mut with_space = |tokens: &[u32]| {
        let span = Span { tokens, cache: &mut cache(&model), tap: &mut NoTap, logits: Wanted::Last };
        model.forward(&mut [span], &mut space, None).unwrap().span(0).to_vec()
    };
    let first = with_space(&tokens(1, 3));
    with_space(&tokens(40, 100));
    assert_eq!(with_space(&tokens(1, 3)), first);
}

#[test]
fn a_tap_sees_rotated_queries_however_the_prompt_is_cut() {
    let model = model();
    let prompt = tokens(1, 20);
    let record = |chunk: usize| {
        let (mut cache, mut tap) = (cache(&model), Record::default());
        for tokens in prompt.chunks(chunk) {
            let span = Span { tokens, cache: &mut cache, tap: &mut tap, logits: Wanted::None };
            model.forward(&mut [span], &mut Workspace::default(), None).unwrap();
        }
        tap
    };
    let whole = record(20);
    assert_eq!(whole.steps, [(0, 0, 20), (1, 0, 20), (2, 0, 20)]);
    let cut = record(7);
    assert_eq!(cut.steps[3..6], [(0, 7, 7), (1, 7, 7), (2, 7, 7)]);
    for (whole, cut) in whole.queries.iter().zip(&cut.queries) {
        assert_eq!(whole.len(), 20 * 4 * 32);
        assert!(whole.iter().zip(cut).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}

#[test]
fn the_queries_of_a_tap_are_the_formula() {
    let folder = scratch("tap");
    let file = tiny_llama();
    let path = folder.join("tiny.gguf");
    std::fs::write(&path, file.bytes()).unwrap();
    let model = Model::load(&path, &mut |_| {}).unwrap();
    let mut tap = Record::default();
    let prompt = [3u32, 1, 4];
    let span = Span { tokens: &prompt, cache: &mut cache(&model), tap: &mut tap, logits: Wanted::None };
    model.forward(&mut [span], &mut Workspace::default(), None).unwrap();

    let numbers = |name: &str| -> Vec<f64> {
        let tensor = file.tensors.iter().find(|tensor| tensor.name == name).unwrap();
        tensor.data.chunks(4).map(|x| f32::from_le_bytes(x.try_into().unwrap()) as f64).collect()
    };
    let (table, norm, w) =
        (numbers("token_embd.weight"), numbers("blk.0.attn_norm.weight"), numbers("blk.0.attn_q.weight"));
    for (position, &token) in prompt.iter().enumerate() {
        let x = &table[token as usize * 8..][..8];
        let rms = (x.iter().map(|x| x * x).sum::<f64>() / 8.0 + 1e-5).sqrt();
        let y: Vec<f64> = x.iter().zip(&norm).map(|(x, n)| x / rms * n).collect();
        let q: Vec<f64> = w.chunks(8).map(|row| row.iter().zip(&y).map(|(w, y)| w * y).sum()).collect();
        for (pair, got) in tap.queries[0][position * 8..][..8].chunks(2).enumerate() {
            // Two heads of two pairs; llama files rotate neighbours.
            let angle = position as f64 * 10_000f64.powf(-((pair % 2) as f64) / 2.0);
            let (a, b) = (q[2 * pair], q[2 * pair + 1]);
            assert!((got[0] as f64 - (a * angle.cos() - b * angle.sin())).abs() < 1e-6);
            assert!((got[1] as f64 - (b * angle.cos() + a * angle.sin())).abs() < 1e-6);
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn positions_go_on_where_the_text_does_not_where_the_slots_do() {
    let model = model();
    let mut cache = cache(&model);
    run(&model, &mut cache, &tokens(1, 30), Wanted::None);
    for layer in 0..3 {
        let kept = Selection::new(Ragged::from_rows([vec![0, 1, 2], vec![5, 29]]), &[30, 30]).unwrap();
        cache.compact(layer, &kept).unwrap();
    }
    let mut tap = Record::default();
    let span = Span { tokens: &[3, 4], cache: &mut cache, tap: &mut tap, logits: Wanted::Last };
    model.forward(&mut [span], &mut Workspace::default(), None).unwrap();
    assert_eq!(tap.steps, [(0, 30, 2), (1, 30, 2), (2, 30, 2)]);
    assert_eq!(cache.positions(1, 0), [0, 1, 2, 30, 31]);
    assert_eq!(cache.positions(1, 1), [5, 29, 30, 31]);
}

/// Raises the flag while a layer runs.
struct CancelAt<'a>(usize, &'a AtomicBool);

impl LayerTap for CancelAt<'_> {
    fn layer(&mut self, step: &LayerStep<'_>) {
        self.1.store(step.layer == self.0, Ordering::Relaxed);
    }
}

#[test]
fn a_cancelled_pass_leaves_every_cache_as_it_was() {
    let model = model();
    let (mut first, mut second, mut untouched) = (cache(&model), cache(&model), cache(&model));
    for cache in [&mut first, &mut second, &mut untouched] {
        run(&model, cache, &tokens(1, 33), Wanted::None);
    }
    let bytes = first.physical_bytes();
    let (flag, prompt) = (AtomicBool::new(false), tokens(40, 40));
    let mut spans = [
        Span { tokens: &prompt, cache: &mut first, tap: &mut NoTap, logits: Wanted::Last },
        Span { tokens: &prompt, cache: &mut second, tap: &mut CancelAt(1, &flag), logits: Wanted::Last },
    ];
    let mut space = Workspace::default();
    let result = model.forward(&mut spans, &mut space, Some(&flag));
    assert_eq!(result.unwrap_err(), Error::Aborted {});
    for cache in [&mut first, &mut second] {
        assert_eq!((cache.next_position(), cache.physical_bytes()), (33, bytes));
        assert_eq!(
            run(&model, cache, &prompt, Wanted::Last),
            run(&model, &mut untouched.fork(), &prompt, Wanted::Last)
        );
    }
}

#[test]
fn a_pass_that_finds_no_room_leaves_every_cache_as_it_was() {
    let model = model();
    // Room for two of three layers.
    let block = block_layout(model.shape().head_dim, Codec::F32).bytes();
    let mut cache = limited_cache(&model, Some(5 * block));
    let span = Span { tokens: &[1, 2, 3], cache: &mut cache, tap: &mut NoTap, logits: Wanted::Last };
    let mut space = Workspace::default();
    let result = model.forward(&mut [span], &mut space, None);
    assert!(matches!(result, Err(Error::KvBudgetExceeded { .. })), "{result:?}");
    assert!(cache.is_empty());
    assert_eq!((cache.next_position(), cache.physical_bytes()), (0, 0));
}

#[test]
fn arguments_that_cannot_be_are_named_and_nothing_changes() {
    let model = model();
    let mut cache = cache(&model);
    let mut forward = |tokens: &[u32]| {
        let span = Span { tokens, cache: &mut cache, tap: &mut NoTap, logits: Wanted::Last };
        model.forward(&mut [span], &mut Workspace::default(), None).map(|_| ())
    };
    assert!(matches!(forward(&[]), Err(Error::InvalidArgument { name, .. }) if name == "tokens"));
    assert!(matches!(forward(&[1, 320]), Err(Error::InvalidArgument { value, .. }) if value == "320"));
    assert_eq!(forward(&[0; 4097]), Err(Error::ContextExceeded { needed: 4097, limit: 4096 }));
    assert!(cache.is_empty());
    assert!(model.forward(&mut [], &mut Workspace::default(), None).is_ok());

    let other = Model::load(&golden("llama"), &mut |_| {}).unwrap();
    let span = Span { tokens: &[1], cache: &mut cache, tap: &mut NoTap, logits: Wanted::Last };
    let mut space = Workspace::default();
    let result = other.forward(&mut [span], &mut space, None);
    assert!(matches!(result, Err(Error::ShapeMismatch { .. })), "{result:?}");
}
