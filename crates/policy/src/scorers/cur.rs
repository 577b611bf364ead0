use headwise_core::{Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Score;
use crate::LayerInput;
use crate::about::{About, Asks, Describe, Reads};
use crate::rows::{each_key, each_value};

/// CUR decomposition's leverage (CurDKV, arXiv 2509.15038, as in kvpress): squared norms ‖k‖² and ‖v‖² stand for the leverage scores of the
/// key and value matrices, each divided by its sum over a block of neighbours, so that a slot competes with those around it.
///
/// Divided by their sum over the head. The first slots get 1, more than any other can have. Needs no queries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default, rename_all = "camelCase")]
pub struct Cur {
    /// First slots that get the largest score. Default 4.
    #[ts(optional, as = "Option<_>")]
    pub first: usize,
    /// What a slot's leverage is made of. Default `"product"`.
    #[ts(optional, as = "Option<_>")]
    pub leverage: Leverage,
    /// Slots of a block in which norms are made comparable; 0: no blocks. Default 16.
    #[ts(optional, as = "Option<_>")]
    pub block: usize,
}

impl Describe for Cur {
    const ABOUT: About = About {
        source: "arXiv 2509.15038, kvpress",
        asks: Asks::Agnostic,
        reads: &[Reads::Keys, Reads::Values],
        deviates: "kvpress's form, in which squared norms stand for leverage.",
    };
}

/// What leverage is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum Leverage {
    /// ‖k‖².
    Key,
    /// ‖v‖².
    Value,
    /// The mean of both.
    Mean,
    /// Their product.
    Product,
}

impl Default for Cur {
    fn default() -> Self {
        Self { first: 4, leverage: Leverage::Product, block: 16 }
    }
}

impl Score for Cur {
    fn has_placeholders(&self) -> bool {
        self.first > 0
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let rows = layer.heads.iter().map(|&head| {
            let (mut keys, mut values) = (vec![0.0; head.len], vec![0.0; head.len]);
            each_key(head, |slot, key| keys[slot] = squared_norm(key));
            each_value(head, |slot, value| values[slot] = squared_norm(value));
            self.combine(keys, values)
        });
        Ok(Scores::from_rows(rows))
    }
}

impl Cur {
    fn combine(&self, mut keys: Vec<f64>, mut values: Vec<f64>) -> Vec<f32> {
        if self.block > 0 {
            keys.chunks_mut(self.block).for_each(divide_by_sum);
            values.chunks_mut(self.block).for_each(divide_by_sum);
        }
        let leverage = |(key, value): (f64, f64)| match self.leverage {
            Leverage::Key => key,
            Leverage::Value => value,
            Leverage::Mean => (key + value) / 2.0,
            Leverage::Product => key * value,
        };
        let mut scores: Vec<f64> = keys.into_iter().zip(values).map(leverage).collect();
        divide_by_sum(&mut scores);
        scores.iter_mut().take(self.first).for_each(|score| *score = 1.0);
        scores.into_iter().map(|score| score as f32).collect()
    }
}

/// Shares of the sum; zeros where it is zero.
fn divide_by_sum(numbers: &mut [f64]) {
    let sum: f64 = numbers.iter().sum();
    if sum > 0.0 {
        numbers.iter_mut().for_each(|x| *x /= sum);
    }
}

fn squared_norm(row: &[f32]) -> f64 {
    row.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}
