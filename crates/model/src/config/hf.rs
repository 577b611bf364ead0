//! `config.json` as transformers writes it, versions 4 (`rope_theta` + `rope_scaling`) and 5 (`rope_parameters`).

use headwise_core::{Error, Result};
use serde_json::{Map, Value};

use super::{Architecture, Config, RopeConfig, RopePairing, RopeScaling, SUPPORTED, unsupported};

pub(super) fn read(text: &str, path: &str) -> Result<Config> {
    let malformed = |reason: String| Error::MalformedFile { path: path.into(), reason };
    let root: Value = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    let Value::Object(root) = root else { return Err(malformed("not a JSON object".into())) };
    let json = Json { path, object: &root };

    let architecture = architecture(&json)?;
    refuse_what_would_be_ignored(&json)?;

    let hidden = json.required_size("hidden_size")?;
    let heads = json.required_size("num_attention_heads")?;
    let head_dim = match (json.size("head_dim")?, architecture) {
        (Some(head_dim), _) => head_dim,
        (None, Architecture::Qwen3) => 128,
        (None, _) => hidden.checked_div(heads).unwrap_or(0),
    };
    let layers = json.required_size("num_hidden_layers")?;
    let context = json.required_size("max_position_embeddings")?;
    let attention_bias = json.flag("attention_bias")?.unwrap_or(false);
    Ok(Config {
        architecture,
        layers,
        hidden,
        intermediate: json.required_size("intermediate_size")?,
        heads,
        kv_heads: json.size("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        vocab: json.required_size("vocab_size")?,
        context: sliding_window(&json, architecture, layers)?.map_or(context, |window| window.min(context)),
        norm_eps: json.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        rope: rope(&json)?,
        tied_embeddings: Some(json.flag("tie_word_embeddings")?.unwrap_or(false)),
        qkv_bias: architecture == Architecture::Qwen2 || attention_bias,
        output_bias: architecture == Architecture::Llama && attention_bias,
        mlp_bias: json.flag("mlp_bias")?.unwrap_or(false),
        bos_token: json.tokens("bos_token_id")?.first().copied(),
        eos_tokens: json.tokens("eos_token_id")?,
    })
}

fn architecture(json: &Json<'_>) -> Result<Architecture> {
    let class = match json.get("architectures") {
        Some(Value::Array(names)) => names.first().and_then(Value::as_str),
        _ => None,
    };
    let name = class.or(json.get("model_type").and_then(Value::as_str)).unwrap_or("(none named)");
    match name {
        "LlamaForCausalLM" | "llama" => Ok(Architecture::Llama),
        "MistralForCausalLM" | "mistral" => Ok(Architecture::Mistral),
        "Qwen2ForCausalLM" | "qwen2" => Ok(Architecture::Qwen2),
        "Qwen3ForCausalLM" | "qwen3" => Ok(Architecture::Qwen3),
        other => Err(Error::UnsupportedArchitecture { architecture: other.into(), supported: SUPPORTED.into() }),
    }
}

/// Settings that change the result and that the decoder does not implement.
fn refuse_what_would_be_ignored(json: &Json<'_>) -> Result<()> {
    match json.get("hidden_act").map(|act| act.as_str().unwrap_or("(not a string)")) {
        None | Some("silu" | "swish") => {}
        Some(other) => return Err(unsupported("hidden_act", other)),
    }
    if let Some(factor) = json.number("partial_rotary_factor")?
        && factor != 1.0
    {
        return Err(unsupported("partial_rotary_factor", factor));
    }
    if let Some(quantization) = json.get("quantization_config") {
        let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("(unnamed)");
        return Err(unsupported("quantization_config", method));
    }
    if json.flag("use_mrope")? == Some(true) {
        return Err(unsupported("use_mrope", true));
    }
    Ok(())
}

/// The sliding window, when any layer uses one.
fn sliding_window(json: &Json<'_>, architecture: Architecture, layers: usize) -> Result<Option<usize>> {
    let window = json.size("sliding_window")?;
    let active = match (architecture, json.get("layer_types")) {
        (Architecture::Llama, None) => false,
        (_, Some(Value::Array(types))) => {
            let types: Vec<&str> = types.iter().map(|kind| kind.as_str().unwrap_or("(not a string)")).collect();
            if let Some(other) = types.iter().find(|kind| !matches!(**kind, "full_attention" | "sliding_attention")) {
                return Err(unsupported("layer type", other));
            }
            types.contains(&"sliding_attention")
        }
        (_, Some(_)) => return Err(json.malformed("layer_types", "a list")),
        (Architecture::Mistral, None) => window.is_some(),
        (Architecture::Qwen2 | Architecture::Qwen3, None) => {
            let first = json.size("max_window_layers")?.unwrap_or(0);
            json.flag("use_sliding_window")?.unwrap_or(false) && window.is_some() && first < layers
        }
    };
    match window {
        _ if !active => Ok(None),
        None | Some(0) => Err(json.malformed("sliding_window", "a positive number, as layer_types demands")),
        window => Ok(window),
    }
}

fn rope(json: &Json<'_>) -> Result<RopeConfig> {
    const NAME: &str = "rope_parameters";
    let theta = json.number("rope_theta")?;
    let parameters = match json.get(NAME).or(json.get("rope_scaling")) {
        None => None,
        Some(Value::Object(object)) => Some(Json { path: json.path, object }),
        Some(_) => return Err(json.malformed(NAME, "an object")),
    };
    let Some(parameters) = parameters else {
        return Ok(RopeConfig {
            theta: theta.unwrap_or(10_000.0),
            scaling: RopeScaling::None,
            pairing: RopePairing::Halves,
        });
    };
    let kind = parameters.get("rope_type").or(parameters.get("type"));
    if kind.is_none() && parameters.object.values().any(Value::is_object) {
        return Err(unsupported("rope_parameters", "per layer type"));
    }
    let required = |key: &str| {
        parameters.number(key)?.ok_or_else(|| json.malformed(&format!("{key} of the rope scaling"), "a number"))
    };
    let scaling = match kind.map(|kind| kind.as_str().unwrap_or("(not a string)")) {
        None | Some("default" | "none") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear { factor: required("factor")? },
        Some("llama3") => RopeScaling::Llama3 {
            factor: required("factor")?,
            low_freq_factor: required("low_freq_factor")?,
            high_freq_factor: required("high_freq_factor")?,
            original_context: required("original_max_position_embeddings")?,
        },
        Some(other) => return Err(unsupported("rope type", other)),
    };
    if let Some(factor) = parameters.number("partial_rotary_factor")?
        && factor != 1.0
    {
        return Err(unsupported("partial_rotary_factor", factor));
    }
    let theta = parameters.number("rope_theta")?.or(theta).unwrap_or(10_000.0);
    Ok(RopeConfig { theta, scaling, pairing: RopePairing::Halves })
}

/// Typed access to an object; `null` counts as absent.
struct Json<'a> {
    path: &'a str,
    object: &'a Map<String, Value>,
}

impl Json<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn malformed(&self, key: &str, expected: &str) -> Error {
        Error::MalformedFile { path: self.path.into(), reason: format!("{key} is not {expected}") }
    }

    fn typed<T>(&self, key: &str, expected: &str, get: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        self.get(key).map(|value| get(value).ok_or_else(|| self.malformed(key, expected))).transpose()
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a non-negative integer", |value| value.as_u64()?.try_into().ok())
    }

    fn required_size(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| self.malformed(key, "there"))
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// One token id, a list of them, or none.
    fn tokens(&self, key: &str) -> Result<Vec<u32>> {
        let token = |value: &Value| u32::try_from(value.as_u64()?).ok();
        let tokens = self.typed(key, "a token id or a list of them", |value| match value {
            Value::Array(list) => list.iter().map(token).collect(),
            // Some configs say -1 for "none".
            value if value.as_i64() == Some(-1) => Some(Vec::new()),
            value => token(value).map(|id| vec![id]),
        })?;
        Ok(tokens.unwrap_or_default())
    }
}
