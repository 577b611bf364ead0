//! Writes GGUF files for the tests.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};

/// `ggml_type` numbers.
pub const F32: u32 = 0;
pub const F16: u32 = 1;
pub const Q8_0: u32 = 8;
pub const BF16: u32 = 30;

/// A GGUF file in the making; every field can be made wrong.
#[derive(Clone)]
pub struct Writer {
    pub version: u32,
    pub alignment: usize,
    pub metadata: Vec<(String, Vec<u8>)>,
    pub tensors: Vec<TensorEntry>,
}

#[derive(Clone)]
pub struct TensorEntry {
    pub name: String,
    /// Contiguous dimension first.
    pub dimensions: Vec<u64>,
    pub kind: u32,
    pub data: Vec<u8>,
    /// Written instead of the true offset.
    pub offset: Option<u64>,
}

impl Default for Writer {
    fn default() -> Self {
        Self { version: 3, alignment: 32, metadata: Vec::new(), tensors: Vec::new() }
    }
}

pub fn text(value: &str) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes()[..], value.as_bytes()].concat()
}

impl Writer {
    /// Adds a value that is already encoded.
    pub fn raw(&mut self, key: &str, kind: u32, value: &[u8]) -> &mut Self {
        self.metadata.push((key.into(), [&kind.to_le_bytes()[..], value].concat()));
        self
    }

    pub fn u32(&mut self, key: &str, value: u32) -> &mut Self {
        self.raw(key, 4, &value.to_le_bytes())
    }

    pub fn f32(&mut self, key: &str, value: f32) -> &mut Self {
        self.raw(key, 6, &value.to_le_bytes())
    }

    pub fn string(&mut self, key: &str, value: &str) -> &mut Self {
        self.raw(key, 8, &text(value))
    }

    pub fn strings(&mut self, key: &str, values: &[&str]) -> &mut Self {
        let head = [&8u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes()].concat();
        let items: Vec<u8> = values.iter().flat_map(|value| text(value)).collect();
        self.raw(key, 9, &[head, items].concat())
    }

    pub fn i32s(&mut self, key: &str, values: &[i32]) -> &mut Self {
        let head = [&5u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes()].concat();
        let items: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.raw(key, 9, &[head, items].concat())
    }

    pub fn tensor(&mut self, name: &str, dimensions: &[u64], kind: u32, data: Vec<u8>) -> &mut Self {
        self.tensors.push(TensorEntry { name: name.into(), dimensions: dimensions.to_vec(), kind, data, offset: None });
        self
    }

    pub fn f32_tensor(&mut self, name: &str, dimensions: &[u64], numbers: &[f32]) -> &mut Self {
        self.tensor(name, dimensions, F32, numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            out.extend(text(key));
            out.extend(value);
        }
        let mut end = 0;
        let mut data = Vec::new();
        for tensor in &self.tensors {
            out.extend(text(&tensor.name));
            out.extend((tensor.dimensions.len() as u32).to_le_bytes());
            tensor.dimensions.iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(end).to_le_bytes());
            data.extend(&tensor.data);
            data.resize(data.len().next_multiple_of(self.alignment), 0);
            end = data.len() as u64;
        }
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend(data);
        out
    }
}

/// A llama with one layer, hidden size 8, two heads over one KV head, five tokens; the embedding is Q8_0 of 32 columns where
/// `hidden` is 32.
pub fn tiny_llama() -> Writer {
    let (hidden, inner, vocab) = (8u64, 12u64, 5u64);
    let mut file = Writer::default();
    file.string("general.architecture", "llama")
        .u32("llama.block_count", 1)
        .u32("llama.context_length", 64)
        .u32("llama.embedding_length", hidden as u32)
        .u32("llama.feed_forward_length", inner as u32)
        .u32("llama.attention.head_count", 2)
        .u32("llama.attention.head_count_kv", 1)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .f32("llama.rope.freq_base", 10_000.0);
    let mut seed = 1u64;
    let mut add = |name: &str, dimensions: &[u64]| {
        let numbers: Vec<f32> =
            (0..dimensions.iter().product()).map(|_| (next(&mut seed) % 1000) as f32 / 1000.0 - 0.5).collect();
        file.f32_tensor(name, dimensions, &numbers);
    };
    add("token_embd.weight", &[hidden, vocab]);
    add("output_norm.weight", &[hidden]);
    for (part, dimensions) in [
        ("attn_norm", &[hidden][..]),
        ("attn_q", &[hidden, 8]),
        ("attn_k", &[hidden, 4]),
        ("attn_v", &[hidden, 4]),
        ("attn_output", &[8, hidden]),
        ("ffn_norm", &[hidden]),
        ("ffn_gate", &[hidden, inner]),
        ("ffn_up", &[hidden, inner]),
        ("ffn_down", &[inner, hidden]),
    ] {
        add(&format!("blk.0.{part}.weight"), dimensions);
    }
    file
}

/// SplitMix64 (Steele, Lea & Flood 2014).
pub fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A folder of this process for this test, empty.
pub fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("headwise-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The models with known outputs.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit/golden-models").join(name)
}
