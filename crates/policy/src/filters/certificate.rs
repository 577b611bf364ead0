use headwise_core::{Error, Result, Scores};
use headwise_kernels::matmul::linear;
use headwise_kernels::{Block, Strips};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use ts_rs::TS;

use super::Admit;
use crate::attention::Rows;
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

/// One KV head.
struct Head {
    /// Attention of the window.
    attention: Rows,
    /// ‖v W‖ by query head and slot, `[group][slots]`.
    lengths: Arc<Vec<f32>>,
    /// ‖o W‖, `[group · rows]`.
    outputs: Vec<f32>,
    /// Its open slots, the first to go first.
    going: Vec<u32>,
}

/// Rows that are added up at a time.
const TOGETHER: usize = 4;

/// What a row of a query head has lost.
#[derive(Clone, Copy, Default)]
struct Lost {
    /// Σ a over what went.
    mass: f64,
    /// Σ a ‖v W‖.
    moved: f64,
}

impl Head {
    /// Takes more slots away from every row, in the order in which they go.
    fn take(&self, lost: &mut [Lost], slots: &[u32]) {
        let Rows { rows, slots: len, .. } = self.attention;
        let of_query_heads = self.attention.of_query_heads().zip(self.lengths.chunks_exact(len.max(1)));
        for ((rows, lengths), lost) in of_query_heads.zip(lost.chunks_exact_mut(rows)) {
            // Sums of one row would wait for each other.
            for (rows, lost) in rows.collect::<Vec<_>>().chunks(TOGETHER).zip(lost.chunks_mut(TOGETHER)) {
                let (mut sums, mut of) = ([Lost::default(); TOGETHER], [rows[0]; TOGETHER]);
                sums[..rows.len()].copy_from_slice(lost);
                of[..rows.len()].copy_from_slice(rows);
                for &slot in slots {
                    let length = f64::from(lengths[slot as usize]);
                    for (sum, row) in sums.iter_mut().zip(of) {
                        let attention = f64::from(row[slot as usize]);
                        sum.mass += attention;
                        sum.moved += attention * length;
                    }
                }
                lost.copy_from_slice(&sums[..rows.len()]);
            }
        }
    }

    /// By how much each row's output may have changed, added to the rows of the layer.
    fn add_bounds(&self, lost: &[Lost], totals: &mut [f64]) {
        for (lost, outputs) in lost.chunks_exact(totals.len()).zip(self.outputs.chunks_exact(totals.len())) {
            for ((lost, &output), total) in lost.iter().zip(outputs).zip(&mut *totals) {
                let left = (1.0 - lost.mass).max(f64::MIN_POSITIVE);
                *total += (lost.moved + lost.mass * f64::from(output)) / left;
            }
        }
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
        let norms = OutputNorms::of_layer("certificate", layer, Norm::L2)?;
        let count = layer.window("certificate", self.window)?.1.len();
        let of_head = |(head, slots): (usize, &Vec<u32>)| {
            let (scores, positions) = (scores.row(head), layer.positions[head]);
            let ranked = |&slot: &u32| (scores[slot as usize], positions[slot as usize], head, slot);
            slots.iter().map(ranked).collect::<Vec<_>>()
        };
        let mut ranked = open.iter().enumerate().flat_map(of_head).collect::<Vec<_>>();
        // Of equals the later one goes first.
        ranked.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then((b.1, b.2).cmp(&(a.1, a.2))));
        let order: Vec<(usize, u32)> = ranked.into_iter().map(|(_, _, head, slot)| (head, slot)).collect();

        let of_head = |head: usize| {
            let view = layer.heads[head];
            let attention = attention::rows(layer, "certificate", self.window, head)?;
            let own = attention::outputs(&attention, view)?;
            let lengths = norms.of_head(layer, head)?;
            let of_query_heads = (head * group..).zip(own.chunks_exact(count * dim));
            let outputs = of_query_heads.map(|(query_head, own)| norms.of(query_head, &Strips::new(own, dim)));
            let outputs = outputs.collect::<Result<Vec<_>>>()?.concat();
            let going = order.iter().filter(|&&(of, _)| of == head).map(|&(_, slot)| slot).collect();
            Ok((Head { attention, lengths, outputs, going }, own))
        };
        let heads = (0..layer.heads.len()).into_par_iter().map(of_head).collect::<Vec<_>>();
        let (heads, own): (Vec<Head>, Vec<Vec<f32>>) =
            heads.into_iter().collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let mut outputs = vec![0.0f32; count * width];
        // A head without slots has no output.
        for (head, own) in own.iter().enumerate() {
            for (query_head, own) in (head * group..).zip(own.chunks_exact(count * dim)) {
                let places = outputs.chunks_exact_mut(width).map(|row| &mut row[query_head * dim..][..dim]);
                places.zip(own.chunks_exact(dim)).for_each(|(place, own)| place.copy_from_slice(own));
            }
        }
        let mut whole = vec![0.0; count * output.rows()];
        linear(&mut whole, &outputs, output, None)?;
        let limits: Vec<f64> = whole.chunks_exact(output.rows()).map(|row| self.error * length(row)).collect();

        // The bound grows with every slot that goes, so that how many can go is found by halving, with what went so far as the base.
        let mut gone = vec![0; heads.len()];
        let mut lost = vec![vec![Lost::default(); group * count]; heads.len()];
        let (mut least, mut most) = (0, order.len());
        while least < most {
            let middle = (least + most).div_ceil(2);
            let mut further = gone.clone();
            order[least..middle].iter().for_each(|&(head, _)| further[head] += 1);
            let tried: Vec<Vec<Lost>> = (heads.par_iter().zip(&lost).zip(gone.par_iter().zip(&further)))
                .map(|((head, lost), (&gone, &further))| {
                    let mut lost = lost.clone();
                    head.take(&mut lost, &head.going[gone..further]);
                    lost
                })
                .collect();
            let mut totals = vec![0.0f64; count];
            heads.iter().zip(&tried).for_each(|(head, lost)| head.add_bounds(lost, &mut totals));
            match totals.iter().zip(&limits).all(|(total, limit)| total <= limit) {
                true => (least, gone, lost) = (middle, further, tried),
                false => most = middle - 1,
            }
        }
        let mut admitted: Vec<Vec<bool>> = layer.lengths().into_iter().map(|len| vec![true; len]).collect();
        order[..least].iter().for_each(|&(head, slot)| admitted[head][slot as usize] = false);
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
