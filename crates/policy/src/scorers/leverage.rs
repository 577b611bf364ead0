use std::ops::Range;

use headwise_core::{Error, Result, Scores};
use headwise_kernels::{Block, HeadView};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::random::{gaussian, mix};
use super::{Score, standardize};
use crate::LayerInput;
use crate::about::{About, Asks, Describe, Reads};

/// Added to the Gram matrix so that it can be inverted.
const JITTER: f64 = 1e-2;

/// Statistical leverage of the keys (Compactor, arXiv 2507.08143): keys stay that are unlike a mixture of the others.
///
/// Of the keys before their rotation, X = K − mean(K): ℓ_j = x_jᵀ (XᵀX + 0.01 I)⁻¹ x_j, then z-scores over all heads and slots of the layer. Needs no
/// queries. kvpress multiplies X by a random D × 48 matrix first, which makes nothing cheaper where D is 64 or 128 and the Gram matrix
/// ill-conditioned; here X is used as it is unless a sketch is asked for. Computed in f64.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct LeverageScore {
    /// Columns of a random Gaussian sketch, 0 (none, the default) to 4096.
    #[ts(optional, as = "Option<_>")]
    pub sketch: usize,
    /// Where the sketch's random numbers start.
    #[ts(optional, as = "Option<_>")]
    pub seed: u32,
    /// A sketch in place of a random one, `[KV heads][head_dim][sketch]`, scaled: for comparisons with other programs.
    #[serde(skip)]
    #[ts(skip)]
    pub given: Option<Vec<f32>>,
}

impl Describe for LeverageScore {
    const ABOUT: About = About {
        source: "arXiv 2507.08143",
        asks: Asks::Agnostic,
        reads: &[Reads::Keys, Reads::Rotation],
        deviates: "No random sketch unless one is asked for, and f64; kvpress sketches to 48 columns.",
    };
}

impl LeverageScore {
    /// Standardised leverage of the slots of each head that `cut` says.
    pub(super) fn of<B: Block>(
        &self,
        layer: &LayerInput<B>,
        cut: impl Fn(usize) -> Range<usize> + Sync,
    ) -> Result<Vec<Vec<f64>>> {
        let heads = (0..layer.heads.len()).into_par_iter();
        let all = heads.map(|head| {
            let view = layer.heads[head];
            let keys = plain_keys(layer, view, head)?;
            let dim = layer.shape.head_dim;
            let range = cut(head);
            self.head(head, &keys[range.start * dim..range.end * dim], dim)
        });
        let mut all = all.collect::<Result<Vec<_>>>()?;
        standardize(&mut all);
        Ok(all)
    }

    fn head(&self, head: usize, keys: &[f64], dim: usize) -> Result<Vec<f64>> {
        let count = keys.len() / dim;
        let mut x = keys.to_vec();
        for d in 0..dim {
            let mean = keys.iter().skip(d).step_by(dim).sum::<f64>() / count.max(1) as f64;
            x.iter_mut().skip(d).step_by(dim).for_each(|x| *x -= mean);
        }
        let (x, width) = match self.sketch_of(head, dim) {
            None => (x, dim),
            Some(sketch) => {
                let width = sketch.len() / dim;
                let project = |row: &[f64]| -> Vec<f64> {
                    (0..width).map(|c| row.iter().enumerate().map(|(d, x)| x * sketch[d * width + c]).sum()).collect()
                };
                (x.chunks_exact(dim).flat_map(project).collect(), width)
            }
        };
        let mut gram = vec![0.0; width * width];
        for row in x.chunks_exact(width) {
            for i in 0..width {
                gram[i * width..][..=i].iter_mut().zip(row).for_each(|(sum, y)| *sum += row[i] * y);
            }
        }
        let mut jitter = JITTER;
        let factor = loop {
            let mut factor = gram.clone();
            (0..width).for_each(|i| factor[i * width + i] += jitter);
            match cholesky(&mut factor, width) {
                true => break factor,
                false if jitter < 1e6 * JITTER => jitter *= 10.0,
                false => return Err(Error::NotANumber { what: "the Gram matrix of keys".into(), index: 0 }),
            }
        };
        let factor = Factor { lower: &factor, dim: width };
        Ok(x.chunks_exact(width).map(|row| factor.leverage(row)).collect())
    }

    /// `[head_dim][sketch]`
    fn sketch_of(&self, head: usize, dim: usize) -> Option<Vec<f64>> {
        if let Some(given) = &self.given {
            return Some(
                given[head * dim * self.sketch..][..dim * self.sketch].iter().map(|&x| f64::from(x)).collect(),
            );
        }
        let scale = 1.0 / (self.sketch as f64).sqrt();
        let seed = mix(u64::from(self.seed)) ^ head as u64;
        (self.sketch > 0).then(|| (0..(dim * self.sketch) as u64).map(|i| gaussian(seed, i) * scale).collect())
    }
}

/// Keys as they were before their rotation, `[slots][head_dim]`.
fn plain_keys<B: Block>(layer: &LayerInput<B>, view: HeadView<B>, head: usize) -> Result<Vec<f64>> {
    let rotation = layer.rotation("leverage")?;
    let dim = layer.shape.head_dim;
    let mut keys = view.all_keys();
    let (mut cos, mut sin) = (Vec::with_capacity(dim / 2), Vec::with_capacity(dim / 2));
    for (key, &position) in keys.chunks_exact_mut(dim).zip(layer.rotary_positions(head)) {
        cos.clear();
        sin.clear();
        rotation.push_angles(position, &mut cos, &mut sin);
        sin.iter_mut().for_each(|sin| *sin = -*sin);
        rotation.rotate(key, &cos, &sin);
    }
    Ok(keys.iter().map(|&x| f64::from(x)).collect())
}

/// The lower factor in place of a symmetric matrix of which only the lower triangle is read; false if it is not positive definite.
pub(crate) fn cholesky(a: &mut [f64], n: usize) -> bool {
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let rest = a[i * n + j] - known;
            if i != j {
                a[i * n + j] = rest / a[j * n + j];
            } else if rest > 0.0 {
                a[i * n + i] = rest.sqrt();
            } else {
                return false;
            }
        }
    }
    true
}

/// A lower Cholesky factor, `[dim][dim]`.
pub(super) struct Factor<'a> {
    pub lower: &'a [f64],
    pub dim: usize,
}

impl Factor<'_> {
    /// xᵀ (L Lᵀ)⁻¹ x = ‖L⁻¹ x‖².
    pub fn leverage(&self, x: &[f64]) -> f64 {
        let mut solved = vec![0.0; self.dim];
        for i in 0..self.dim {
            let known: f64 = self.lower[i * self.dim..][..i].iter().zip(&solved).map(|(l, y)| l * y).sum();
            solved[i] = (x[i] - known) / self.lower[i * self.dim + i];
        }
        solved.iter().map(|y| y * y).sum()
    }
}

impl Score for LeverageScore {
    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let rows = self.of(layer, |head| 0..layer.heads[head].len)?;
        Ok(Scores::from_rows(rows.into_iter().map(|row| row.into_iter().map(|x| x as f32).collect())))
    }

    fn validate(&self) -> Result<()> {
        match self.sketch <= 4096 {
            true => Ok(()),
            false => Err(Error::invalid("leverage.sketch", self.sketch, "at most 4096")),
        }
    }
}
