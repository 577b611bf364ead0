//! What is evicted is really freed: resident memory of this process, measured on the real model. One test, so that nothing
//! else allocates beside it.

use std::path::PathBuf;

use headwise_cache::block_layout;
use headwise_core::Codec;
use headwise_engine::{CancelToken, Engine, EngineOptions, Input, Model, PolicySpec, SessionOptions};

#[cfg(target_os = "linux")]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
#[cfg(target_os = "linux")]
fn resident_memory_falls_by_what_a_4k_prompt_evicts() {
    let Some(path) = std::env::var_os("HEADWISE_MODEL").map(PathBuf::from) else {
        println!("SKIPPED: HEADWISE_MODEL is not set (npm test sets it)");
        return;
    };
    for (codec, names) in
        [(Codec::F16, &["adaSnapKV", "snapKV", "lookahead", "restKV"][..]), (Codec::Int8, &["adaSnapKV"])]
    {
        let options = EngineOptions { kv_codec: codec, ..EngineOptions::default() };
        let engine = Engine::start(Model::load(&path, &mut |_| {}).unwrap(), options).unwrap();
        resident_memory_falls(&engine, codec, names);
    }
}

#[cfg(target_os = "linux")]
fn resident_memory_falls(engine: &Engine, codec: Codec, names: &[&str]) {
    let block_bytes = block_layout(64, codec).bytes();
    for name in names {
        pollster::block_on(async {
            let session = engine.create_session(SessionOptions::default()).await.unwrap();
            // Varied ids: what they say does not matter here.
            let tokens: Vec<u32> = (0..4096u32).map(|i| 1000 + i * 7919 % 40_000).collect();
            session.prefill(Input::Tokens(tokens), Default::default(), Default::default()).await.unwrap();
            let before = resident();
            let policy = PolicySpec::named(name).unwrap().with_budget(headwise_policy::Budget::Keep(0.2));
            let report = session.compress(Some(policy), CancelToken::default()).await.unwrap();
            let after = resident();
            let evicted = report.before.logical_bytes - report.after.logical_bytes;
            let fallen = before.saturating_sub(after);
            println!(
                "{name}: evicted {:.1} MB, resident memory fell by {:.1} MB ({:.0} %); physical {:.1} MB, logical {:.1} MB",
                evicted as f64 / 1e6,
                fallen as f64 / 1e6,
                fallen as f64 / evicted as f64 * 1e2,
                report.after.physical_bytes as f64 / 1e6,
                report.after.logical_bytes as f64 / 1e6,
            );
            assert!(fallen as f64 >= 0.75 * evicted as f64);
            let bound = 1.1 * report.after.logical_bytes as f64 + (90 * block_bytes) as f64;
            assert!(report.after.physical_bytes as f64 <= bound);
            session.dispose().await;
        });
    }
}
