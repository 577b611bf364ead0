//! Nine small models whose outputs another implementation (transformers) computed, from safetensors and rewritten as GGUF.

mod common;

use std::f64::consts::TAU;
use std::path::Path;

use common::{BF16, F16, F32, Writer, golden, scratch};
use headwise_model::Model;
use headwise_model::rope::HalfFloat;
use headwise_testkit::models::{Expected, check, check_model};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

#[test]
fn all_nine_models_say_what_they_should_from_safetensors() {
    for name in [
        "llama",
        "llama-tied-bf16",
        "llama3-rope",
        "llama-linear-rope",
        "llama-head-dim",
        "llama-sharded-f16",
        "mistral",
        "qwen2",
        "qwen3",
    ] {
        match check(&golden(name)) {
            Ok(found) => {
                println!("{name}: {found:?}");
                // These two oracles were cast to half precision and back, their frequencies included.
                let cast = matches!(name, "llama-tied-bf16" | "llama-sharded-f16");
                assert_eq!(found.rounded_frequencies, cast, "{name}");
            }
            Err(difference) => panic!("{name}: {difference}"),
        }
    }
}

#[test]
fn the_same_models_say_the_same_from_gguf() {
    let folder = scratch("golden-gguf");
    for name in
        ["llama", "llama-tied-bf16", "llama3-rope", "llama-linear-rope", "llama-head-dim", "mistral", "qwen2", "qwen3"]
    {
        let path = folder.join(format!("{name}.gguf"));
        std::fs::write(&path, gguf_of(&golden(name)).bytes()).unwrap();
        let mut model = Model::load(&path, &mut |_| {}).unwrap_or_else(|error| panic!("{name}: {error}"));
        if name == "llama-tied-bf16" {
            model.round_frequencies(HalfFloat::Bf16);
        }
        let expected = Expected::read(&golden(name)).unwrap();
        let error = check_model(&model, &expected).unwrap_or_else(|difference| panic!("{name}: {difference}"));
        println!("{name}: largest error {error:.3} of the tolerance");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Rewrites a folder the way converters do: other names, q and k rows of llama permuted to neighbouring pairs, llama3 scaling
/// as a tensor of divisors.
fn gguf_of(folder: &Path) -> Writer {
    let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    let arch = match config["model_type"].as_str().unwrap() {
        "mistral" => "llama",
        other => other,
    };
    let (heads, kv_heads) = (number("num_attention_heads"), number("num_key_value_heads"));
    let head_dim = config["head_dim"].as_u64().map_or(number("hidden_size") / heads, |n| n as usize);
    let rope = &config["rope_parameters"];

    let mut file = Writer::default();
    file.string("general.architecture", arch)
        .u32(&format!("{arch}.block_count"), number("num_hidden_layers") as u32)
        .u32(&format!("{arch}.context_length"), number("max_position_embeddings") as u32)
        .u32(&format!("{arch}.embedding_length"), number("hidden_size") as u32)
        .u32(&format!("{arch}.feed_forward_length"), number("intermediate_size") as u32)
        .u32(&format!("{arch}.attention.head_count"), heads as u32)
        .u32(&format!("{arch}.attention.head_count_kv"), kv_heads as u32)
        .u32(&format!("{arch}.attention.key_length"), head_dim as u32)
        .u32(&format!("{arch}.attention.value_length"), head_dim as u32)
        .u32(&format!("{arch}.rope.dimension_count"), head_dim as u32)
        .f32(&format!("{arch}.attention.layer_norm_rms_epsilon"), config["rms_norm_eps"].as_f64().unwrap() as f32)
        .f32(&format!("{arch}.rope.freq_base"), rope["rope_theta"].as_f64().unwrap() as f32);
    match rope["rope_type"].as_str().unwrap() {
        "linear" => {
            file.string(&format!("{arch}.rope.scaling.type"), "linear")
                .f32(&format!("{arch}.rope.scaling.factor"), rope["factor"].as_f64().unwrap() as f32);
        }
        "llama3" => {
            let factors = llama3_divisors(rope, head_dim);
            file.f32_tensor("rope_freqs.weight", &[factors.len() as u64], &factors);
        }
        _ => {}
    }

    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for (name, tensor) in tensors.tensors() {
        let kind = match tensor.dtype() {
            Dtype::F32 => F32,
            Dtype::F16 => F16,
            Dtype::BF16 => BF16,
            other => panic!("{other:?}"),
        };
        let permuted = match name.rsplit('.').nth(1).unwrap() {
            "q_proj" if arch == "llama" => Some(heads),
            "k_proj" if arch == "llama" => Some(kv_heads),
            _ => None,
        };
        let data = match permuted {
            Some(heads) => neighbours(tensor.data(), heads, head_dim),
            None => tensor.data().to_vec(),
        };
        let dimensions: Vec<u64> = tensor.shape().iter().rev().map(|&n| n as u64).collect();
        file.tensor(&gguf_name(&name), &dimensions, kind, data);
    }
    file
}

/// Row `[head][half][i]` becomes row `[head][2 i + half]`.
fn neighbours(data: &[u8], heads: usize, head_dim: usize) -> Vec<u8> {
    let row_bytes = data.len() / (heads * head_dim);
    let half = head_dim / 2;
    let rows = (0..heads).flat_map(|h| (0..half).flat_map(move |i| [0, 1].map(|p| h * head_dim + p * half + i)));
    rows.flat_map(|row| data[row * row_bytes..(row + 1) * row_bytes].to_vec()).collect()
}

/// By wavelength, as the Llama 3.1 release describes it.
fn llama3_divisors(rope: &Value, head_dim: usize) -> Vec<f32> {
    let value = |key: &str| rope[key].as_f64().unwrap();
    let (factor, low, high) = (value("factor"), value("low_freq_factor"), value("high_freq_factor"));
    let context = value("original_max_position_embeddings");
    let divisor = |i: usize| {
        let wavelength = TAU * value("rope_theta").powf((2 * i) as f64 / head_dim as f64);
        if wavelength < context / high {
            1.0
        } else if wavelength > context / low {
            factor as f32
        } else {
            let smooth = (context / wavelength - low) / (high - low);
            (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
        }
    };
    (0..head_dim / 2).map(divisor).collect()
}

fn gguf_name(name: &str) -> String {
    let name = match name {
        "model.embed_tokens.weight" => return "token_embd.weight".into(),
        "model.norm.weight" => return "output_norm.weight".into(),
        "lm_head.weight" => return "output.weight".into(),
        name => name.strip_prefix("model.layers.").unwrap(),
    };
    let [layer, part, suffix] = {
        let (layer, rest) = name.split_once('.').unwrap();
        let (part, suffix) = rest.rsplit_once('.').unwrap();
        [layer, part, suffix]
    };
    let part = match part {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        other => panic!("{other}"),
    };
    format!("blk.{layer}.{part}.{suffix}")
}
