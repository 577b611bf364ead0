//! GGUF metadata (`<architecture>.*` keys).

use headwise_core::{Error, Result};

use super::{Architecture, Config, RopeConfig, RopePairing, RopeScaling, SUPPORTED, unsupported};
use crate::gguf::{Gguf, Value};

pub(super) fn read(file: &Gguf<'_>) -> Result<Config> {
    let name = file.string("general.architecture")?.unwrap_or("(none named)".into());
    // Mistral is stored as llama.
    let architecture = match &*name {
        "llama" => Architecture::Llama,
        "qwen2" => Architecture::Qwen2,
        "qwen3" => Architecture::Qwen3,
        other => {
            return Err(Error::UnsupportedArchitecture { architecture: other.into(), supported: SUPPORTED.into() });
        }
    };
    let keys = Keys { file, prefix: &name };
    if let Some(experts) = keys.size("expert_count")?
        && experts > 0
    {
        return Err(unsupported("expert_count", experts));
    }
    if file.bool(&keys.name("attention.causal"))? == Some(false) {
        return Err(unsupported("attention.causal", false));
    }

    let hidden = keys.required("embedding_length")?;
    let heads = keys.required("attention.head_count")?;
    let head_dim = keys.size("attention.key_length")?.unwrap_or(hidden.checked_div(heads).unwrap_or(0));
    for other in ["attention.value_length", "rope.dimension_count"] {
        if let Some(value) = keys.size(other)?
            && value != head_dim
        {
            return Err(unsupported(&keys.name(other), format!("{value} with heads of {head_dim}")));
        }
    }
    let context = keys.required("context_length")?;
    let window = keys.size("attention.sliding_window")?.filter(|&window| window > 0);
    let eps = file.f64(&keys.name("attention.layer_norm_rms_epsilon"))?;
    let token = |key: &str| Ok(file.u64(key)?.and_then(|id| u32::try_from(id).ok()));
    Ok(Config {
        architecture,
        layers: keys.required("block_count")?,
        hidden,
        intermediate: keys.required("feed_forward_length")?,
        heads,
        kv_heads: keys.size("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        vocab: vocabulary(&keys)?,
        context: window.map_or(context, |window| window.min(context)),
        norm_eps: eps.ok_or_else(|| keys.missing("attention.layer_norm_rms_epsilon"))? as f32,
        rope: rope(&keys, architecture)?,
        tied_embeddings: None,
        qkv_bias: architecture == Architecture::Qwen2,
        output_bias: false,
        mlp_bias: false,
        bos_token: token("tokenizer.ggml.bos_token_id")?,
        eos_tokens: [token("tokenizer.ggml.eos_token_id")?, token("tokenizer.ggml.eot_token_id")?]
            .into_iter()
            .flatten()
            .collect(),
    })
}

/// Rows of the embedding table, which is the truth that the metadata only repeats.
fn vocabulary(keys: &Keys<'_, '_>) -> Result<usize> {
    match keys.file.tensors().get("token_embd.weight").map(|info| &info.dimensions[..]) {
        Some([_, rows, ..]) => Ok(*rows),
        _ => Err(Error::MissingTensor { path: keys.file.path().into(), tensor: "token_embd.weight".into() }),
    }
}

/// Llama 3 scaling does not appear here: converters store it as the tensor `rope_freqs.weight`.
fn rope(keys: &Keys<'_, '_>, architecture: Architecture) -> Result<RopeConfig> {
    let theta = keys.file.f64(&keys.name("rope.freq_base"))?.unwrap_or(10_000.0);
    let kind = keys.file.string(&keys.name("rope.scaling.type"))?;
    let factor = match keys.file.f64(&keys.name("rope.scaling.factor"))? {
        None => keys.file.f64(&keys.name("rope.scale_linear"))?,
        factor => factor,
    };
    let scaling = match (kind.as_deref(), factor) {
        (Some("none"), _) | (None, None | Some(0.0)) => RopeScaling::None,
        (None | Some("linear"), Some(factor)) => RopeScaling::Linear { factor },
        (Some("linear"), None) => return Err(keys.missing("rope.scaling.factor")),
        (Some(other), _) => return Err(unsupported("rope type", other)),
    };
    let pairing = match architecture {
        Architecture::Llama | Architecture::Mistral => RopePairing::Neighbours,
        Architecture::Qwen2 | Architecture::Qwen3 => RopePairing::Halves,
    };
    Ok(RopeConfig { theta, scaling, pairing })
}

struct Keys<'f, 'a> {
    file: &'f Gguf<'a>,
    prefix: &'f str,
}

impl Keys<'_, '_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn missing(&self, key: &str) -> Error {
        Error::MalformedFile {
            path: self.file.path().into(),
            reason: format!("metadata key {:?} is missing", self.name(key)),
        }
    }

    /// A number, or a list with one number a layer that are all the same.
    fn size(&self, key: &str) -> Result<Option<usize>> {
        let name = self.name(key);
        let value = match self.file.get(&name) {
            Some(Value::Array(array)) => {
                let values = array.integers().filter(|values| !values.is_empty());
                match values.as_deref() {
                    Some([first, rest @ ..]) if rest.iter().all(|value| value == first) => u64::try_from(*first).ok(),
                    _ => return Err(unsupported(&name, "that differs from layer to layer")),
                }
            }
            _ => self.file.u64(&name)?,
        };
        Ok(value.map(|value| usize::try_from(value).unwrap_or(usize::MAX)))
    }

    fn required(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }
}
