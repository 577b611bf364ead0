//! The model of the decode bench: a file that the environment names, or one of random weights.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use headwise_kernels::matmul::Matrix;
use headwise_model::Model;
use headwise_model::gguf::Gguf;

#[path = "../../crates/model/tests/common/mod.rs"]
mod gguf;

const Q4_1: u32 = 3;

/// `HEADWISE_MODEL`, or a new file of the size and shape of SmolLM2-135M in Q4_1 with random weights and no tokenizer.
fn path() -> PathBuf {
    std::env::var_os("HEADWISE_MODEL").map_or_else(random, PathBuf::from)
}

fn random() -> PathBuf {
    let (hidden, inner, kv, vocab) = (576, 1536, 192, 49152);
    let mut file = gguf::Writer::default();
    file.string("general.architecture", "llama")
        .u32("llama.block_count", 30)
        .u32("llama.context_length", 8192)
        .u32("llama.embedding_length", hidden as u32)
        .u32("llama.feed_forward_length", inner as u32)
        .u32("llama.attention.head_count", 9)
        .u32("llama.attention.head_count_kv", 3)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .f32("llama.rope.freq_base", 100_000.0);
    let mut seed = 1;
    let mut blocks = |count: u64, head: &[u8], numbers: usize| -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count as usize * (head.len() + numbers));
        for _ in 0..count {
            bytes.extend(head);
            (0..numbers / 8).for_each(|_| bytes.extend(gguf::next(&mut seed).to_le_bytes()));
        }
        bytes
    };
    // As in the real file the table, which is the output head too, is Q8_0: a scale (2^-12 in f16) and 32 bytes.
    file.tensor("token_embd.weight", &[hidden, vocab], gguf::Q8_0, blocks(hidden * vocab / 32, &[0x00, 0x0c], 32));
    let ones = |n: u64| vec![1.0; n as usize];
    file.f32_tensor("output_norm.weight", &[hidden], &ones(hidden));
    for layer in 0..30 {
        for part in ["attn_norm", "ffn_norm"] {
            file.f32_tensor(&format!("blk.{layer}.{part}.weight"), &[hidden], &ones(hidden));
        }
        for (part, cols, rows) in [
            ("attn_q", hidden, hidden),
            ("attn_k", hidden, kv),
            ("attn_v", hidden, kv),
            ("attn_output", hidden, hidden),
            ("ffn_gate", hidden, inner),
            ("ffn_up", hidden, inner),
            ("ffn_down", inner, hidden),
        ] {
            // 2^-7 a step from -7.5 steps on, so that nibbles lie around zero, then 32 of them.
            let data = blocks(cols * rows / 32, &[0x00, 0x20, 0x80, 0xab], 16);
            file.tensor(&format!("blk.{layer}.{part}.weight"), &[cols, rows], Q4_1, data);
        }
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("random-135m-q4_1.gguf");
    std::fs::write(&path, file.bytes()).expect("room for 98 MB in the target directory");
    path
}

/// A model, and its file once more for benches of single products.
pub struct Loaded {
    pub model: Model,
    bytes: Vec<u8>,
}

/// The model of this run.
pub static LOADED: LazyLock<Loaded> = LazyLock::new(|| {
    let path = path();
    let bytes = std::fs::read(&path).expect("a GGUF file");
    Loaded { model: Model::load(&path, &mut |_| {}).expect("a model that headwise runs"), bytes }
});

/// The weights that one token takes part with.
pub struct Needed {
    pub bytes: usize,
    pub count: usize,
}

impl Loaded {
    fn gguf(&self) -> Gguf<'_> {
        Gguf::parse(&self.bytes, "the model").expect("it was loaded")
    }

    /// All tensors but the embedding table, where there is an output head beside it.
    pub fn needed(&self) -> Needed {
        let file = self.gguf();
        let tied = !file.tensors().contains_key("output.weight");
        let read = || file.tensors().iter().filter(|&(&name, _)| tied || name != "token_embd.weight");
        Needed {
            bytes: read().map(|(_, tensor)| tensor.range.len()).sum(),
            count: read().map(|(_, tensor)| tensor.dimensions.iter().product::<usize>()).sum(),
        }
    }

    /// What is multiplied at once, in the order of a step: per layer query, key and value; the attention's output; gate and up; down;
    /// and after all layers the output head.
    pub fn products(&self) -> Vec<Vec<Matrix<'_>>> {
        let file = self.gguf();
        let matrix = |name: &str| {
            let tensor = &file.tensors()[name];
            let [cols, rows] = tensor.dimensions[..] else { panic!("{name} is no matrix") };
            Matrix::new(&self.bytes[tensor.range.clone()], tensor.dtype, rows, cols).expect("the file was checked")
        };
        let at_once: [&[&str]; 4] =
            [&["attn_q", "attn_k", "attn_v"], &["attn_output"], &["ffn_gate", "ffn_up"], &["ffn_down"]];
        let of_layer = |layer| {
            at_once.map(|parts| parts.iter().map(|part| matrix(&format!("blk.{layer}.{part}.weight"))).collect())
        };
        let mut products: Vec<Vec<_>> = (0..self.model.config().layers).flat_map(of_layer).collect();
        let tied = !file.tensors().contains_key("output.weight");
        products.push(vec![matrix(if tied { "token_embd.weight" } else { "output.weight" })]);
        products
    }
}
