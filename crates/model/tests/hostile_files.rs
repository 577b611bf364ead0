//! Files made to hurt, through the whole of `Model::load` and a forward pass.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{golden, next, scratch, tiny_llama};
use headwise_cache::{BlockPool, KvCache, block_layout};
use headwise_core::{Codec, Error};
use headwise_model::{Model, NoTap, Span, Wanted, Workspace};

const CHILD: &str = "HEADWISE_FUZZ_CHILD";
/// Address space of the child in KiB: enough for the program, its threads and their arenas, and far below what a hostile
/// length asks for.
const CHILD_KIB: usize = 1 << 20;

fn load(path: &Path) -> Result<Model, Error> {
    Model::load(path, &mut |_| {})
}

/// Loads, and runs what loads. Any typed error is fine; a panic or an allocation that fails ends the process.
fn try_to_run(path: &Path) -> bool {
    let Ok(model) = load(path) else { return false };
    let run = || {
        let pool = BlockPool::new(block_layout(model.shape().head_dim, Codec::F32), Some(1 << 20))?;
        let mut cache = KvCache::new(pool, model.shape())?;
        let span = Span { tokens: &[0, 1, 2], cache: &mut cache, tap: &mut NoTap, logits: Wanted::Last };
        model.forward(&mut [span], &mut Workspace::default(), None).map(|_| ())
    };
    // NaN weights and caches beyond the limit are found here.
    run().is_ok()
}

fn tiny_with_tokens() -> Vec<u8> {
    let mut file = tiny_llama();
    file.string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "smollm")
        .strings("tokenizer.ggml.tokens", &["<|e|>", "a", "b", "ab", "c"])
        .i32s("tokenizer.ggml.token_type", &[3, 1, 1, 1, 1])
        .strings("tokenizer.ggml.merges", &["a b"])
        .u32("tokenizer.ggml.eos_token_id", 0)
        .string("tokenizer.chat_template", "{{ messages[0].content }}");
    file.bytes()
}

fn mutate(bytes: &mut [u8], range: usize, seed: &mut u64) {
    for _ in 0..1 + next(seed) % 3 {
        let at = next(seed) as usize % range.min(bytes.len() - 8);
        match next(seed) % 4 {
            0 | 1 => bytes[at] ^= 1 << (next(seed) % 8),
            2 => bytes[at] = next(seed) as u8,
            _ => {
                let extreme = [0, 1, u64::MAX, u64::MAX - 31, 1 << 63, 1 << 32, 1 << 24][next(seed) as usize % 7];
                bytes[at..at + 8].copy_from_slice(&extreme.to_le_bytes());
            }
        }
    }
}

/// Runs a test of this program again in a process whose address space is bounded.
fn in_a_bounded_process(test: &str) {
    let program = std::env::current_exe().unwrap();
    let script = format!("ulimit -v {CHILD_KIB} && exec \"$0\" --exact {test} --nocapture");
    let output = Command::new("sh").args(["-c", &script]).arg(program).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
}

#[test]
fn no_mutated_gguf_panics_or_asks_for_much_memory() {
    if cfg!(unix) && std::env::var_os(CHILD).is_none() {
        return in_a_bounded_process("no_mutated_gguf_panics_or_asks_for_much_memory");
    }
    let folder = scratch("gguf-fuzz");
    let path = folder.join("m.gguf");
    let original = tiny_with_tokens();
    let header = original.len() - tiny_llama().tensors.iter().map(|t| t.data.len().next_multiple_of(32)).sum::<usize>();
    fs::write(&path, &original).unwrap();
    assert!(try_to_run(&path), "{:?}", load(&path).err());
    let mut seed = 42;
    let mut ran = 0;
    for _ in 0..4000 {
        let mut bytes = original.clone();
        mutate(&mut bytes, header, &mut seed);
        if next(&mut seed).is_multiple_of(8) {
            bytes.truncate(next(&mut seed) as usize % bytes.len());
        }
        fs::write(&path, &bytes).unwrap();
        ran += try_to_run(&path) as usize;
    }
    // Some mutations are harmless; if none were, the loop would test nothing behind the header.
    assert!(ran > 100, "{ran}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn no_mutated_safetensors_panics_or_asks_for_much_memory() {
    if cfg!(unix) && std::env::var_os(CHILD).is_none() {
        return in_a_bounded_process("no_mutated_safetensors_panics_or_asks_for_much_memory");
    }
    let folder = scratch("safetensors-fuzz");
    let (source, weights, config) = (golden("llama"), folder.join("model.safetensors"), folder.join("config.json"));
    let original = fs::read(source.join("model.safetensors")).unwrap();
    let settings = fs::read(source.join("config.json")).unwrap();
    let header = 8 + u64::from_le_bytes(original[..8].try_into().unwrap()) as usize;
    let mut seed = 43;
    for round in 0..1500 {
        let (mut bytes, mut text) = (original.clone(), settings.clone());
        match round % 3 {
            0 => mutate(&mut text, settings.len(), &mut seed),
            1 => mutate(&mut bytes, header, &mut seed),
            _ => mutate(&mut bytes, 16, &mut seed),
        }
        fs::write(&weights, &bytes).unwrap();
        fs::write(&config, &text).unwrap();
        try_to_run(&folder);
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn safetensors_that_end_early_or_late_are_named() {
    let folder = scratch("safetensors-cut");
    let path = folder.join("model.safetensors");
    fs::copy(golden("llama").join("config.json"), folder.join("config.json")).unwrap();
    let whole = fs::read(golden("llama").join("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let with = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        load(&path).map(|_| ())
    };
    assert_eq!(with(&whole), Ok(()));
    for end in [0, 1, 7, 8, 9, header - 1, header, header + 1, whole.len() - 1] {
        let result = with(&whole[..end]);
        assert!(matches!(result, Err(Error::TruncatedFile { have, .. }) if have == end as u64), "{end}: {result:?}");
    }
    let long = with(&[&whole[..], &[0]].concat());
    assert!(matches!(long, Err(Error::MalformedFile { .. })), "{long:?}");
    for length in [u64::MAX, 1 << 40, 0] {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        assert!(matches!(with(&bytes), Err(Error::MalformedFile { .. })), "{length}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_missing_wrong_or_unknown_in_a_folder_is_named() {
    let folder = scratch("folder");
    let missing = load(&folder);
    assert!(matches!(&missing, Err(Error::Io { path, .. }) if path.ends_with("model.safetensors")), "{missing:?}");
    assert!(matches!(load(&folder.join("no.gguf")), Err(Error::Io { .. })));

    let copy = |name: &str| fs::copy(golden("llama-sharded-f16").join(name), folder.join(name)).unwrap();
    for name in ["config.json", "model.safetensors.index.json", "model-00001-of-00003.safetensors"] {
        copy(name);
    }
    copy("model-00002-of-00003.safetensors");
    let result = load(&folder);
    assert!(matches!(&result, Err(Error::Io { path, .. }) if path.contains("00003-of")), "{result:?}");
    copy("model-00003-of-00003.safetensors");
    assert!(load(&folder).is_ok());

    let index = fs::read_to_string(folder.join("model.safetensors.index.json")).unwrap();
    let with_index = |from: &str, to: &str| {
        fs::write(folder.join("model.safetensors.index.json"), index.replacen(from, to, 1)).unwrap();
        load(&folder).map(|_| ())
    };
    for outside in ["../model-00001-of-00003.safetensors", "/etc/passwd", "..", ""] {
        let result = with_index("model-00001-of-00003.safetensors", outside);
        assert!(matches!(result, Err(Error::MalformedFile { .. })), "{outside}: {result:?}");
    }
    let moved = with_index("\"model.norm.weight\": \"model-00003", "\"model.norm.weight\": \"model-00001");
    assert!(matches!(&moved, Err(Error::MissingTensor { tensor, .. }) if tensor == "model.norm.weight"), "{moved:?}");
    let removed = with_index("\"model.norm.weight\"", "\"model.other.weight\"");
    assert!(matches!(removed, Err(Error::MissingTensor { .. })), "{removed:?}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_tensor_that_the_decoder_would_ignore_is_refused() {
    let folder = scratch("unknown-tensor");
    let path = folder.join("m.gguf");
    let with = |change: &dyn Fn(&mut common::Writer)| {
        let mut file = tiny_llama();
        change(&mut file);
        fs::write(&path, file.bytes()).unwrap();
        load(&path).map(|_| ())
    };
    assert_eq!(with(&|_| {}), Ok(()));
    let extra = with(&|file| {
        file.f32_tensor("blk.0.attn_q_norm.weight", &[4], &[1.0; 4]);
    });
    assert_eq!(
        extra,
        Err(Error::UnsupportedFeature { feature: "tensor".into(), value: "blk.0.attn_q_norm.weight".into() })
    );
    // Biases are known wherever a product is.
    assert_eq!(
        with(&|file| {
            file.f32_tensor("blk.0.ffn_up.bias", &[12], &[0.5; 12]);
        }),
        Ok(())
    );
    let experts = with(&|file| {
        file.u32("llama.expert_count", 8);
    });
    assert!(matches!(experts, Err(Error::UnsupportedFeature { .. })), "{experts:?}");
    let yarn = with(&|file| {
        file.string("llama.rope.scaling.type", "yarn").f32("llama.rope.scaling.factor", 4.0);
    });
    assert_eq!(yarn, Err(Error::UnsupportedFeature { feature: "rope type".into(), value: "yarn".into() }));
    let shape = with(&|file| file.tensors[0].dimensions = vec![5, 8]);
    assert!(matches!(shape, Err(Error::ShapeMismatch { .. })), "{shape:?}");
    let missing = with(&|file| {
        file.tensors.pop();
    });
    assert!(matches!(&missing, Err(Error::MissingTensor { tensor, .. }) if tensor == "blk.0.ffn_down.weight"));
    let nan = with(&|file| file.tensors[1].data[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    assert_eq!(nan, Err(Error::NotANumber { what: "output_norm.weight".into(), index: 0 }));
    let other = with(&|file| file.metadata[0].1 = [&8u32.to_le_bytes()[..], &common::text("gemma")].concat());
    assert!(matches!(other, Err(Error::UnsupportedArchitecture { .. })), "{other:?}");
    let factors = with(&|file| {
        file.f32_tensor("rope_freqs.weight", &[2], &[1.0, 0.0]);
    });
    assert!(matches!(factors, Err(Error::InvalidArgument { .. })), "{factors:?}");
    fs::remove_dir_all(folder).unwrap();
}
