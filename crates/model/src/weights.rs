//! Weights by role. They stay where the file maps them, in GGML format; only norms and biases, which are small, are copied.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use headwise_core::{Error, Result};
use headwise_kernels::matmul::{Matrix, dequantize_row};

use crate::config::Config;
use crate::gguf::Gguf;
use crate::mmap::MappedFile;

/// A tensor of a mapped file.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub(crate) file: Arc<MappedFile>,
    pub(crate) range: Range<usize>,
    pub(crate) dtype: GgmlDType,
    /// Outermost dimension first.
    pub(crate) shape: Vec<usize>,
}

impl Tensor {
    fn bytes(&self) -> &[u8] {
        &self.file.bytes()[self.range.clone()]
    }
}

/// The tensors of a model that nobody has asked for yet.
#[derive(Debug)]
pub struct Tensors {
    path: String,
    tensors: BTreeMap<String, Tensor>,
}

impl Tensors {
    pub(crate) fn new(path: String) -> Self {
        Self { path, tensors: BTreeMap::new() }
    }

    /// Those of a GGUF file.
    pub(crate) fn from_gguf(gguf: &Gguf<'_>, file: &Arc<MappedFile>) -> Self {
        let tensor = |info: &crate::gguf::TensorInfo| Tensor {
            file: file.clone(),
            range: info.range.clone(),
            dtype: info.dtype,
            shape: info.dimensions.iter().rev().copied().collect(),
        };
        let tensors = gguf.tensors().iter().map(|(name, info)| (name.to_string(), tensor(info))).collect();
        Self { path: gguf.path().into(), tensors }
    }

    pub(crate) fn insert(&mut self, name: String, tensor: Tensor) -> Result<()> {
        if self.tensors.contains_key(&name) {
            return Err(Error::MalformedFile {
                path: self.path.clone(),
                reason: format!("tensor {name:?} occurs twice"),
            });
        }
        self.tensors.insert(name, tensor);
        Ok(())
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The files that they lie in.
    pub(crate) fn files(&self) -> Vec<Arc<MappedFile>> {
        let mut files: Vec<Arc<MappedFile>> = Vec::new();
        for tensor in self.tensors.values() {
            if !files.iter().any(|file| Arc::ptr_eq(file, &tensor.file)) {
                files.push(tensor.file.clone());
            }
        }
        files
    }

    /// The numbers of a vector that may be absent.
    pub(crate) fn optional_vector(&mut self, name: &str, len: usize) -> Result<Option<Vec<f32>>> {
        let Some(tensor) = self.tensors.remove(name) else { return Ok(None) };
        expect_shape(name, &tensor, &[len])?;
        let mut numbers = vec![0.0; len];
        dequantize_row(matrix_of(&tensor, 1, len)?, 0, &mut numbers)?;
        match numbers.iter().position(|number| !number.is_finite()) {
            Some(index) => Err(Error::NotANumber { what: name.into(), index }),
            None => Ok(Some(numbers)),
        }
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        self.optional_vector(name, len)?.ok_or_else(|| self.missing(name))
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Weight> {
        let tensor = self.tensors.remove(name).ok_or_else(|| self.missing(name))?;
        expect_shape(name, &tensor, &[rows, cols])?;
        matrix_of(&tensor, rows, cols)?;
        Ok(Weight { tensor, rows, cols })
    }

    fn linear(&mut self, name: &str, rows: usize, cols: usize, bias_required: bool) -> Result<Linear> {
        let weight = self.matrix(&format!("{name}.weight"), rows, cols)?;
        let bias_name = format!("{name}.bias");
        let bias = self.optional_vector(&bias_name, rows)?;
        if bias.is_none() && bias_required {
            return Err(self.missing(&bias_name));
        }
        Ok(Linear { weight, bias })
    }

    fn missing(&self, name: &str) -> Error {
        Error::MissingTensor { path: self.path.clone(), tensor: name.into() }
    }
}

fn expect_shape(name: &str, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    if tensor.shape != expected {
        return Err(Error::ShapeMismatch {
            what: format!("tensor {name:?}"),
            expected: expected.to_vec(),
            got: tensor.shape.clone(),
        });
    }
    Ok(())
}

fn matrix_of(tensor: &Tensor, rows: usize, cols: usize) -> Result<Matrix<'_>> {
    Matrix::new(tensor.bytes(), tensor.dtype, rows, cols)
}

/// A matrix `[rows = out][cols = in]` in the file.
#[derive(Debug, Clone)]
pub(crate) struct Weight {
    tensor: Tensor,
    pub rows: usize,
    pub cols: usize,
}

impl Weight {
    pub fn matrix(&self) -> Result<Matrix<'_>> {
        matrix_of(&self.tensor, self.rows, self.cols)
    }
}

/// A matrix with its bias.
#[derive(Debug)]
pub(crate) struct Linear {
    pub weight: Weight,
    pub bias: Option<Vec<f32>>,
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub attention_norm: Vec<f32>,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    /// RMS norms of each query and key head.
    pub qk_norm: Option<(Vec<f32>, Vec<f32>)>,
    pub mlp_norm: Vec<f32>,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

#[derive(Debug)]
pub(crate) struct Weights {
    pub embedding: Weight,
    pub layers: Vec<Layer>,
    pub norm: Vec<f32>,
    pub head: Weight,
}

/// What a file format calls the parts.
#[derive(Debug)]
pub(crate) struct Names {
    embedding: &'static str,
    norm: &'static str,
    head: &'static str,
    layer: &'static str,
    attention_norm: &'static str,
    q: &'static str,
    k: &'static str,
    v: &'static str,
    o: &'static str,
    q_norm: &'static str,
    k_norm: &'static str,
    mlp_norm: &'static str,
    gate: &'static str,
    up: &'static str,
    down: &'static str,
    /// End of the names of tensors that repeat what the config says.
    redundant: &'static str,
}

impl Names {
    pub const GGUF: Names = Names {
        embedding: "token_embd.weight",
        norm: "output_norm.weight",
        head: "output.weight",
        layer: "blk",
        attention_norm: "attn_norm",
        q: "attn_q",
        k: "attn_k",
        v: "attn_v",
        o: "attn_output",
        q_norm: "attn_q_norm",
        k_norm: "attn_k_norm",
        mlp_norm: "ffn_norm",
        gate: "ffn_gate",
        up: "ffn_up",
        down: "ffn_down",
        redundant: "attn_rot_embd",
    };

    pub const HUGGING_FACE: Names = Names {
        embedding: "model.embed_tokens.weight",
        norm: "model.norm.weight",
        head: "lm_head.weight",
        layer: "model.layers",
        attention_norm: "input_layernorm",
        q: "self_attn.q_proj",
        k: "self_attn.k_proj",
        v: "self_attn.v_proj",
        o: "self_attn.o_proj",
        q_norm: "self_attn.q_norm",
        k_norm: "self_attn.k_norm",
        mlp_norm: "post_attention_layernorm",
        gate: "mlp.gate_proj",
        up: "mlp.up_proj",
        down: "mlp.down_proj",
        redundant: "rotary_emb.inv_freq",
    };
}

impl Weights {
    /// Takes every tensor that the architecture has.
    ///
    /// A tensor that is left over is an error: it would change the result if the decoder knew what to do with it.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::ShapeMismatch`], [`Error::UnsupportedFeature`].
    pub fn bind(config: &Config, tensors: &mut Tensors, names: &Names) -> Result<Self> {
        let Config { hidden, intermediate, head_dim, vocab, .. } = *config;
        let (q_width, kv_width) = (config.heads * head_dim, config.kv_heads * head_dim);
        let embedding = tensors.matrix(names.embedding, vocab, hidden)?;
        // Some files carry a copy of the table although the config ties them.
        let tied = config.tied_embeddings.unwrap_or_else(|| !tensors.contains(names.head));
        let head = if tied { embedding.clone() } else { tensors.matrix(names.head, vocab, hidden)? };
        tensors.tensors.remove(names.head);
        let norm = tensors.vector(names.norm, hidden)?;
        let mut layers = Vec::new();
        for index in 0..config.layers {
            let name = |part: &str| format!("{}.{index}.{part}", names.layer);
            let norm_name = |part: &str| format!("{}.{index}.{part}.weight", names.layer);
            let qk_norm = if config.qk_norm() {
                Some((
                    tensors.vector(&norm_name(names.q_norm), head_dim)?,
                    tensors.vector(&norm_name(names.k_norm), head_dim)?,
                ))
            } else {
                None
            };
            layers.push(Layer {
                attention_norm: tensors.vector(&norm_name(names.attention_norm), hidden)?,
                q: tensors.linear(&name(names.q), q_width, hidden, config.qkv_bias)?,
                k: tensors.linear(&name(names.k), kv_width, hidden, config.qkv_bias)?,
                v: tensors.linear(&name(names.v), kv_width, hidden, config.qkv_bias)?,
                o: tensors.linear(&name(names.o), hidden, q_width, config.output_bias)?,
                qk_norm,
                mlp_norm: tensors.vector(&norm_name(names.mlp_norm), hidden)?,
                gate: tensors.linear(&name(names.gate), intermediate, hidden, config.mlp_bias)?,
                up: tensors.linear(&name(names.up), intermediate, hidden, config.mlp_bias)?,
                down: tensors.linear(&name(names.down), hidden, intermediate, config.mlp_bias)?,
            });
        }
        let unknown = |name: &&String| !name.trim_end_matches(".weight").ends_with(names.redundant);
        match tensors.tensors.keys().find(unknown) {
            Some(name) => Err(Error::UnsupportedFeature { feature: "tensor".into(), value: name.clone() }),
            None => Ok(Self { embedding, layers, norm, head }),
        }
    }

    /// Numbers in all weights.
    pub fn parameters(&self) -> u64 {
        let linear = |l: &Linear| l.weight.rows * l.weight.cols + l.bias.as_ref().map_or(0, Vec::len);
        let layer = |l: &Layer| {
            let products: usize = [&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down].into_iter().map(linear).sum();
            let head_norms = l.qk_norm.as_ref().map_or(0, |(q, k)| q.len() + k.len());
            (products + head_norms + l.attention_norm.len() + l.mlp_norm.len()) as u64
        };
        let table = (self.embedding.rows * self.embedding.cols) as u64;
        let tied = self.head.tensor.range == self.embedding.tensor.range
            && Arc::ptr_eq(&self.head.tensor.file, &self.embedding.tensor.file);
        let tables = if tied { table } else { 2 * table };
        tables + self.norm.len() as u64 + self.layers.iter().map(layer).sum::<u64>()
    }
}
