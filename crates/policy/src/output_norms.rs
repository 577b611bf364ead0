//! How much a value can move a head's output, or the residual stream: ‖v‖, ‖v W_O‖.

use bytemuck::cast_slice;
use headwise_core::{KvShape, Result};
use headwise_kernels::image_norms::{ImageNorms, Measure};
use headwise_kernels::matmul::{GgmlDType, Matrix, dequantize_row, linear};
use headwise_kernels::{Block, HeadView, Strips, gram};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use ts_rs::TS;

use crate::LayerInput;
use crate::rows;

/// How long a vector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Sum of magnitudes (CriticalKV, DefensiveKV). Costs as much as the output projection of the whole prompt.
    L1,
    /// Euclidean (LaProx), through the D × D Gram matrix of each head's part of W_O: a small share of that cost.
    #[default]
    L2,
}

/// W_O of one layer, ready to measure values with.
pub(crate) struct OutputNorms {
    norm: Norm,
    dim: usize,
    group: usize,
    /// Per query head its columns of W_O (L1), or the Gram matrix W Wᵀ of these, `[head_dim][head_dim]` (L2).
    maps: ImageNorms,
    /// The Gram matrices.
    grams: Vec<Vec<f32>>,
}

/// Lengths behind W_O that more than one part of a policy asks for, of one layer.
pub struct OutputLengths {
    norms: OnceLock<Arc<OutputNorms>>,
    /// `[kv head]`
    of_heads: Box<[OnceLock<Arc<Vec<f32>>>]>,
}

impl OutputLengths {
    /// Nothing yet, of so many KV heads.
    pub fn new(heads: usize) -> Self {
        Self { norms: OnceLock::new(), of_heads: (0..heads).map(|_| OnceLock::new()).collect() }
    }
}

impl OutputNorms {
    /// Those of a layer; `who` asks, for errors. Euclidean ones are shared.
    pub fn of_layer<B: Block>(who: &str, layer: &LayerInput<B>, norm: Norm) -> Result<Arc<Self>> {
        let shared = layer.output_lengths.filter(|_| norm == Norm::L2).map(|shared| &shared.norms);
        once(shared, || Self::new(layer.output(who)?, layer.shape, norm))
    }

    /// From W_O, `[hidden][query heads · head_dim]`.
    fn new(output: Matrix<'_>, shape: KvShape, norm: Norm) -> Result<Self> {
        let (dim, group) = (shape.head_dim, shape.group);
        let columns = columns(output, dim)?;
        let (maps, grams) = match norm {
            Norm::L1 => (ImageNorms::new(Measure::Magnitude, &columns, dim)?, Vec::new()),
            Norm::L2 => {
                let grams = columns.iter().map(|of_head| gram(of_head, dim)).collect::<Result<Vec<_>>>()?;
                (ImageNorms::new(Measure::Form, &grams, dim)?, grams)
            }
        };
        Ok(Self { norm, dim, group, maps, grams })
    }

    /// ‖v W_O‖ of values through the part of a query head, `[slots]`.
    pub fn of(&self, query_head: usize, values: &Strips) -> Result<Vec<f32>> {
        self.of_all(query_head..query_head + 1, values)
    }

    /// ‖v W_O‖ of the slots of a KV head through its query heads, `[group][slots]`. Euclidean ones are shared.
    pub fn of_head<B: Block>(&self, layer: &LayerInput<B>, head: usize) -> Result<Arc<Vec<f32>>> {
        let shared = layer.output_lengths.filter(|_| self.norm == Norm::L2).map(|shared| &shared.of_heads[head]);
        once(shared, || self.of_group(head, &Strips::values(layer.heads[head])))
    }

    /// The same for vectors, `[group][n]`.
    pub fn of_group(&self, head: usize, values: &Strips) -> Result<Vec<f32>> {
        self.of_all(head * self.group..(head + 1) * self.group, values)
    }

    fn of_all(&self, query_heads: Range<usize>, values: &Strips) -> Result<Vec<f32>> {
        let mut norms = self.maps.run(query_heads, values)?;
        if self.norm == Norm::L2 {
            // What rounding made negative is nothing; a NaN stays one.
            norms.iter_mut().for_each(|norm| *norm = if *norm < 0.0 { 0.0 } else { norm.sqrt() });
        }
        Ok(norms)
    }

    /// W Wᵀ x for rows `[n][head_dim]`, with the part of W_O that belongs to a query head. For [`Norm::L2`] only.
    pub fn gram(&self, query_head: usize, rows: &[f32]) -> Result<Vec<f32>> {
        debug_assert_eq!(self.norm, Norm::L2);
        let mut product = vec![0.0; rows.len()];
        linear(
            &mut product,
            rows,
            Matrix::new(cast_slice(&self.grams[query_head]), GgmlDType::F32, self.dim, self.dim)?,
            None,
        )?;
        Ok(product)
    }

    /// The mean over the query heads of a KV head, `[slots]`.
    pub fn mean(&self, head: usize, values: &Strips) -> Result<Vec<f32>> {
        let mut mean = vec![0.0; values.len()];
        for norms in self.of_group(head, values)?.chunks_exact(values.len().max(1)) {
            mean.iter_mut().zip(norms).for_each(|(mean, norm)| *mean += norm / self.group as f32);
        }
        Ok(mean)
    }
}

/// What is in the cell, or else `make`s it and leaves it there. Nobody waits for another: who comes second has made the same.
fn once<T>(cell: Option<&OnceLock<Arc<T>>>, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
    if let Some(made) = cell.and_then(OnceLock::get) {
        return Ok(made.clone());
    }
    let made = Arc::new(make()?);
    if let Some(cell) = cell {
        let _ = cell.set(made.clone());
    }
    Ok(made)
}

/// The columns of W_O that belong to each query head, `[hidden][head_dim]`.
fn columns(output: Matrix<'_>, dim: usize) -> Result<Vec<Vec<f32>>> {
    let mut row = vec![0.0; output.cols()];
    let heads = output.cols() / dim;
    let mut columns: Vec<Vec<f32>> = (0..heads).map(|_| Vec::with_capacity(output.rows() * dim)).collect();
    for out in 0..output.rows() {
        dequantize_row(output, out, &mut row)?;
        columns.iter_mut().zip(row.chunks_exact(dim)).for_each(|(head, part)| head.extend_from_slice(part));
    }
    Ok(columns)
}

/// What a slot's score is multiplied with: the length of its value, or of what W_O makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Weight {
    /// Length of what. Default `"output"`.
    #[ts(optional, as = "Option<_>")]
    pub by: WeightBy,
    /// How it is measured. Default `"l2"`.
    #[ts(optional, as = "Option<_>")]
    pub norm: Norm,
}

/// What a slot's weight is the length of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum WeightBy {
    /// v, the same for all query heads.
    Value,
    /// v W_O, with the part of W_O that belongs to the query head.
    #[default]
    Output,
    /// What the layer's output changes by when the slot is taken away and the softmax renormalised: (o − v) W_O / (1 − a), with o the head's output.
    /// Always measured by its Euclidean norm. Unlike the others it sees that a slot without a value of its own, an attention sink, matters.
    Change,
}

/// Weights of one layer.
pub(crate) struct Weights {
    pub by: WeightBy,
    norm: Norm,
    pub output: Option<Arc<OutputNorms>>,
    group: usize,
}

impl Weight {
    /// Ready to weigh the slots of a layer. `who` asks, for errors.
    pub(crate) fn of<B: Block>(&self, who: &str, layer: &LayerInput<B>) -> Result<Weights> {
        let output = match self.by {
            WeightBy::Output => Some(OutputNorms::of_layer(who, layer, self.norm)?),
            WeightBy::Change => Some(OutputNorms::of_layer(who, layer, Norm::L2)?),
            WeightBy::Value => None,
        };
        Ok(Weights { by: self.by, norm: self.norm, output, group: layer.shape.group })
    }
}

impl Weights {
    /// Weights of the slots of a KV head for each query head, `[group][slots]`.
    pub fn by_query_head<B: Block>(&self, layer: &LayerInput<B>, head: usize) -> Result<Arc<Vec<f32>>> {
        match &self.output {
            Some(norms) => norms.of_head(layer, head),
            None => Ok(Arc::new(self.lengths(layer.heads[head]).repeat(self.group))),
        }
    }

    /// Their mean over the query heads, `[slots]`.
    pub fn mean<B: Block>(&self, head: usize, view: HeadView<B>) -> Result<Vec<f32>> {
        match &self.output {
            Some(norms) => norms.mean(head, &Strips::values(view)),
            None => Ok(self.lengths(view)),
        }
    }

    fn lengths<B: Block>(&self, view: HeadView<B>) -> Vec<f32> {
        match self.norm {
            Norm::L2 => rows::value_norms(view),
            Norm::L1 => {
                let mut norms = Vec::with_capacity(view.len);
                rows::each_value(view, |_, value| norms.push(rows::magnitude(value)));
                norms
            }
        }
    }
}
