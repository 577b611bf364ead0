//! The real model, when `HEADWISE_MODEL` names SmolLM2-135M-Instruct as GGUF.

use std::path::PathBuf;

use headwise_cache::{BlockPool, KvCache, block_layout};
use headwise_core::Codec;
use headwise_model::{LoadPhase, Model, NoTap, Span, Wanted, Workspace};

fn path() -> Option<PathBuf> {
    let path = std::env::var_os("HEADWISE_MODEL").map(PathBuf::from).filter(|path| path.is_file());
    if path.is_none() {
        println!("SKIPPED: set HEADWISE_MODEL to a GGUF of SmolLM2-135M-Instruct");
    }
    path
}

fn cache(model: &Model) -> KvCache {
    let pool = BlockPool::new(block_layout(model.shape().head_dim, Codec::F16), None).unwrap();
    KvCache::new(pool, model.shape()).unwrap()
}

fn argmax(logits: &[f32]) -> u32 {
    (0..logits.len()).reduce(|a, b| if logits[b] > logits[a] { b } else { a }).unwrap() as u32
}

#[test]
fn the_capital_of_france_is_paris() {
    let Some(path) = path() else { return };
    let mut reports = Vec::new();
    let model = Model::load(&path, &mut |progress| reports.push(progress)).unwrap();
    let last = reports.last().unwrap();
    assert_eq!((last.phase, last.done), (LoadPhase::Weights, last.total));
    assert!(reports.windows(2).all(|pair| pair[0].done <= pair[1].done));
    assert_eq!(model.parameters(), 134_515_008);
    assert_eq!((model.architecture(), model.context_length(), model.vocab_size()), ("llama", 8192, 49152));

    let tokenizer = model.tokenizer().unwrap();
    let prompt = tokenizer.encode("The capital of France is", false).unwrap();
    let (mut cache, mut space) = (cache(&model), Workspace::default());
    let mut feed = |tokens: &[u32]| {
        let span = Span { tokens, cache: &mut cache, tap: &mut NoTap, logits: Wanted::Last };
        argmax(model.forward(&mut [span], &mut space, None).unwrap().span(0))
    };
    let mut ids = vec![feed(&prompt)];
    while ids.len() < 12 {
        ids.push(feed(&ids[ids.len() - 1..]));
    }
    let text = tokenizer.decode(&ids).unwrap();
    println!("The capital of France is{text}");
    assert!(text.starts_with(" Paris"), "{text}");
}
