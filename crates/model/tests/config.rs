//! Settings of models: what is read, what is refused by name.

use headwise_core::Error;
use headwise_model::Config;
use headwise_model::config::{Architecture, RopePairing, RopeScaling};
use serde_json::{Value, json};

fn base() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 64,
        "intermediate_size": 160, "max_position_embeddings": 4096, "num_attention_heads": 4, "num_hidden_layers": 3,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": 320
    })
}

/// The base with these keys changed; `null` removes one.
fn with(changes: Value) -> Result<Config, Error> {
    let mut config = base();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    Config::from_json(&config.to_string(), "config.json")
}

fn refused(changes: Value, feature: &str, value: &str) {
    let expected = Error::UnsupportedFeature { feature: feature.into(), value: value.into() };
    assert_eq!(with(changes), Err(expected));
}

fn malformed(changes: Value) {
    let result = with(changes.clone());
    assert!(matches!(result, Err(Error::MalformedFile { .. })), "{changes}: {result:?}");
}

#[test]
fn rope_settings_of_both_generations_mean_the_same() {
    let llama3 = json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3"});
    let mut new = llama3.clone();
    new["rope_theta"] = json!(500000.0);
    let old = with(json!({"rope_theta": 500000.0, "rope_scaling": llama3})).unwrap();
    assert_eq!(old, with(json!({"rope_parameters": new})).unwrap());
    let scaling =
        RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192.0 };
    assert_eq!((old.rope.theta, old.rope.scaling, old.rope.pairing), (500000.0, scaling, RopePairing::Halves));

    let linear = with(json!({"rope_scaling": {"type": "linear", "factor": 4.0}})).unwrap();
    assert_eq!((linear.rope.theta, linear.rope.scaling), (10000.0, RopeScaling::Linear { factor: 4.0 }));
    assert_eq!(with(json!({"rope_scaling": null})).unwrap().rope.scaling, RopeScaling::None);
    assert_eq!(with(json!({"rope_scaling": {"rope_type": "default"}})).unwrap().rope.scaling, RopeScaling::None);
}

#[test]
fn what_the_decoder_would_get_wrong_is_refused_by_name() {
    for kind in ["yarn", "dynamic", "longrope", "su", "mrope", "ntk-by-parts"] {
        refused(json!({"rope_scaling": {"type": kind, "factor": 2.0}}), "rope type", kind);
    }
    refused(json!({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}), "rope_parameters", "per layer type");
    refused(json!({"hidden_act": "gelu"}), "hidden_act", "gelu");
    refused(json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor", "0.5");
    refused(json!({"quantization_config": {"quant_method": "gptq"}}), "quantization_config", "gptq");
    refused(json!({"layer_types": ["full_attention", "linear_attention"]}), "layer type", "linear_attention");
    for name in ["MixtralForCausalLM", "GemmaForCausalLM", "SmolLM3ForCausalLM"] {
        let result = with(json!({"architectures": [name]}));
        assert!(matches!(&result, Err(Error::UnsupportedArchitecture { architecture, .. }) if architecture == name));
    }
    assert!(matches!(
        with(json!({"architectures": null, "model_type": null})),
        Err(Error::UnsupportedArchitecture { architecture, .. }) if architecture == "(none named)"
    ));
}

#[test]
fn an_active_sliding_window_bounds_the_context() {
    let mistral =
        |window: Value| with(json!({"architectures": ["MistralForCausalLM"], "sliding_window": window})).unwrap();
    assert_eq!(mistral(json!(1024)).context, 1024);
    assert_eq!(mistral(json!(1 << 20)).context, 4096);
    assert_eq!(mistral(Value::Null).context, 4096);
    let qwen = |more: Value| {
        let mut changes =
            json!({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 1024, "max_window_layers": 1});
        changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with(changes).unwrap().context
    };
    assert_eq!(qwen(json!({"use_sliding_window": true})), 1024);
    assert_eq!(qwen(json!({"use_sliding_window": false})), 4096);
    assert_eq!(qwen(json!({"use_sliding_window": true, "max_window_layers": 3})), 4096);
    assert_eq!(qwen(json!({"layer_types": ["full_attention", "sliding_attention"]})), 1024);
    assert_eq!(qwen(json!({"layer_types": ["full_attention"], "use_sliding_window": true})), 4096);
}

#[test]
fn families_differ_in_biases_norms_and_head_dim() {
    let qwen2 = with(json!({"architectures": ["Qwen2ForCausalLM"]})).unwrap();
    assert_eq!((qwen2.architecture, qwen2.qkv_bias, qwen2.output_bias), (Architecture::Qwen2, true, false));
    let qwen3 = with(json!({"architectures": ["Qwen3ForCausalLM"]})).unwrap();
    assert_eq!((qwen3.head_dim, qwen3.qk_norm(), qwen3.qkv_bias), (128, true, false));
    let llama = with(json!({"attention_bias": true, "mlp_bias": true, "head_dim": 24})).unwrap();
    assert_eq!((llama.head_dim, llama.qkv_bias, llama.output_bias, llama.mlp_bias), (24, true, true, true));
    assert_eq!(with(json!({"num_key_value_heads": null})).unwrap().kv_heads, 4);
    assert_eq!(with(json!({"eos_token_id": [1, 7]})).unwrap().eos_tokens, [1, 7]);
    assert_eq!(with(json!({"eos_token_id": 7})).unwrap().eos_tokens, [7]);
}

#[test]
fn numbers_out_of_range_are_malformed_not_a_crash() {
    for key in [
        "hidden_size",
        "intermediate_size",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "vocab_size",
    ] {
        for value in [json!(0), json!(-1), json!(1.5), json!("64"), json!(u64::MAX), json!(1u64 << 40), Value::Null] {
            malformed(json!({ key: value }));
        }
    }
    malformed(json!({"num_key_value_heads": 3}));
    malformed(json!({"num_key_value_heads": 0}));
    malformed(json!({"head_dim": 7}));
    malformed(json!({"head_dim": 1 << 24}));
    malformed(json!({"rms_norm_eps": 0.0}));
    malformed(json!({"rms_norm_eps": 1e300}));
    malformed(json!({"rope_theta": -1.0}));
    malformed(json!({"rope_scaling": {"type": "linear", "factor": 0.0}}));
    malformed(json!({"rope_scaling": {"type": "linear"}}));
    malformed(
        json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}}),
    );
    malformed(json!({"eos_token_id": "x"}));
    malformed(json!({"layer_types": ["sliding_attention"]}));
    assert!(matches!(Config::from_json("[1]", ""), Err(Error::MalformedFile { .. })));
    assert!(matches!(Config::from_json("{", ""), Err(Error::MalformedFile { .. })));
    assert!(matches!(Config::from_json(&"[".repeat(100_000), ""), Err(Error::MalformedFile { .. })));
}
