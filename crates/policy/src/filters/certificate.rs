use headwise_core::{Error, Result, Scores};
use headwise_kernels::Block;
use headwise_kernels::matmul::linear;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Admit;
use crate::output_norms::{Norm, OutputNorms};
use crate::{About, Asks, Describe, LayerInput, Needs, Reads, attention};

/// The least that keeps the layer's attention output right: of each layer the worst slots go, over all heads, as long as no query of the window
/// can see its output change by more than the share `error`. Ours.
///
/// When a query head loses slots E that hold the share m of its attention and the softmax is renormalised, its part of the output o W changes by
/// ‖Δ‖ ≤ (S + m ‖o W‖) / (1 − m), with S = Σ_E a_j ‖v_j W‖: Δ = Σ_E a_j v_j W − m o' W, and o' W is what is left, divided by 1 − m. The sum of
/// these bounds over the query heads is a bound for the layer, and slots go in the order of their scores until it reaches `error` · ‖Σ_h o_h W_h‖ for
/// the first row. It is a certificate for what the window asked, not for what comes later; and a bound: what is measured is less.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Certificate {
    /// Share of the output's length that may change, more than 0. Default 0.5.
    #[ts(optional, as = "Option<_>")]
    pub error: f64,
    /// Last queries that must be served, 1 to 64: their attention to all slots of a layer is held at once. Default 16.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
}

impl Describe for Certificate {
    const ABOUT: About =
        About { source: "ours", asks: Asks::Aware, reads: &[Reads::Keys, Reads::Values, Reads::Output], deviates: "" };
}

impl Default for Certificate {
    fn default() -> Self {
        Self { error: 0.5, window: 16 }
    }
}

/// What a query head and row of the window has lost.
#[derive(Clone, Copy, Default)]
struct Lost {
    /// Σ a over what went.
    mass: f64,
    /// Σ a ‖v W‖.
    moved: f64,
    /// ‖o W‖.
    output: f64,
    /// By how much the output may have changed.
    bound: f64,
}

impl Lost {
    /// Takes a slot away that had so much attention; what the bound grows by.
    fn take(&mut self, attention: f64, length: f64) -> f64 {
        self.mass += attention;
        self.moved += attention * length;
        let before = self.bound;
        self.bound = (self.moved + self.mass * self.output) / (1.0 - self.mass).max(f64::MIN_POSITIVE);
        self.bound - before
    }
}

impl Admit for Certificate {
    fn needs(&self) -> Needs {
        Needs { window_queries: self.window, ..Needs::default() }
    }

    fn admit<B: Block>(&self, layer: &LayerInput<B>, scores: &Scores, open: &[Vec<u32>]) -> Result<Vec<Vec<bool>>> {
        let (group, dim) = (layer.shape.group, layer.shape.head_dim);
        let width = layer.shape.query_heads() * dim;
        let output = layer.output("certificate")?;
        let norms = OutputNorms::new(output, layer.shape, Norm::L2)?;
        let count = layer.window("certificate", self.window)?.1.len();
        // [head][group][row][slot], and of each [query head] the values' lengths behind W_O.
        let (mut attention, mut lengths) = (Vec::new(), Vec::new());
        let mut outputs = vec![0.0f32; count * width];
        for (head, &view) in layer.heads.iter().enumerate() {
            let values = view.all_values();
            let rows = attention::rows(layer, "certificate", self.window, head)?;
            let of_group = attention::outputs(&rows, &values, dim)?;
            for (query_head, of_head) in (head * group..).zip(of_group.chunks_exact(count * dim)) {
                lengths.push(norms.of(query_head, &values)?);
                let places = outputs.chunks_exact_mut(width).map(|row| &mut row[query_head * dim..][..dim]);
                places.zip(of_head.chunks_exact(dim)).for_each(|(place, output)| place.copy_from_slice(output));
            }
            attention.push(rows);
        }
        let mut whole = vec![0.0; count * output.rows()];
        linear(&mut whole, &outputs, output, None)?;
        let limits: Vec<f64> = whole.chunks_exact(output.rows()).map(|row| self.error * length(row)).collect();

        let mut lost = vec![vec![Lost::default(); count]; layer.shape.query_heads()];
        for (query_head, lost) in lost.iter_mut().enumerate() {
            let own: Vec<f32> =
                outputs.chunks_exact(width).flat_map(|row| &row[query_head * dim..][..dim]).copied().collect();
            let lengths = norms.of(query_head, &own)?;
            lost.iter_mut().zip(lengths).for_each(|(lost, length)| lost.output = f64::from(length));
        }
        let mut order: Vec<(usize, u32)> =
            open.iter().enumerate().flat_map(|(head, slots)| slots.iter().map(move |&slot| (head, slot))).collect();
        let score = |&(head, slot): &(usize, u32)| scores.row(head)[slot as usize];
        let place = |&(head, slot): &(usize, u32)| (layer.positions[head][slot as usize], head);
        // Of equals the later one goes first.
        order.sort_by(|a, b| score(a).total_cmp(&score(b)).then(place(b).cmp(&place(a))));
        let mut admitted: Vec<Vec<bool>> = layer.lengths().into_iter().map(|len| vec![true; len]).collect();
        let mut totals = vec![0.0f64; count];
        for (head, slot) in order {
            let slot = slot as usize;
            for g in 0..group {
                let lost = &mut lost[head * group + g];
                let length = f64::from(lengths[head * group + g][slot]);
                for ((lost, total), row) in lost.iter_mut().zip(&mut totals).zip(&attention[head][g]) {
                    *total += lost.take(f64::from(row[slot]), length);
                }
            }
            if !totals.iter().zip(&limits).all(|(total, limit)| total <= limit) {
                break;
            }
            admitted[head][slot] = false;
        }
        Ok(admitted)
    }

    fn validate(&self) -> Result<()> {
        if !(self.error > 0.0 && self.error.is_finite()) {
            return Err(Error::invalid("certificate.error", self.error, "a finite number above 0"));
        }
        match (1..=64).contains(&self.window) {
            true => Ok(()),
            false => Err(Error::invalid("certificate.window", self.window, "between 1 and 64")),
        }
    }
}

fn length(row: &[f32]) -> f64 {
    row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}
