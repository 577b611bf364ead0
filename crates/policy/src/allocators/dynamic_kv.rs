use headwise_core::{Error, Result, Scores};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Allocate, Share, by_weight};
use crate::about::{About, Asks, Describe};
use crate::{apportion, selectors};

/// DynamicKV (arXiv 2412.14838): layers share the budget by how many of the best scores of all layers are theirs; inside a layer heads are equal.
///
/// Every layer has at least `least` of an even share, as far as it has slots; the rest is in proportion to what its count is above that (largest
/// remainder). The published code cuts in integers and gives what rounding leaves to the last layer, and r_min only prints a warning there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct DynamicKVLayers {
    /// Least share of an even share that a layer gets, in [0, 1]. Default 0.1.
    #[ts(optional, as = "Option<_>")]
    pub least: f64,
}

impl Describe for DynamicKVLayers {
    const ABOUT: About = About {
        source: "arXiv 2412.14838",
        asks: Asks::Either,
        reads: &[],
        deviates: "Largest remainder and a floor that holds; the code cuts in integers, gives the rest to the last layer and caps a layer at ten times its share.",
    };
}

impl Default for DynamicKVLayers {
    fn default() -> Self {
        Self { least: 0.1 }
    }
}

impl Allocate for DynamicKVLayers {
    fn weighs(&self) -> bool {
        true
    }

    fn allocate(&self, budget: usize, layers: &[Share<'_>]) -> Vec<usize> {
        let rows = layers.iter().map(|layer| layer.scores.map_or_else(Vec::new, |scores| scores.data().to_vec()));
        let all = Scores::from_rows(rows);
        let budget = budget.min(all.data().len());
        // Scores are no NaN: a policy refuses those before.
        let counts = selectors::counts(&all, budget).unwrap_or_else(|_| vec![1; layers.len()]);
        let least = (budget as f64 * self.least / layers.len().max(1) as f64) as usize;
        let floors: Vec<usize> = layers.iter().map(|layer| least.min(layer.available)).collect();
        let above: Vec<f64> =
            counts.iter().zip(&floors).map(|(count, floor)| count.saturating_sub(*floor) as f64).collect();
        let room: Vec<usize> = layers.iter().zip(&floors).map(|(layer, floor)| layer.available - floor).collect();
        if floors.iter().sum::<usize>() > budget {
            return by_weight(budget, &vec![1.0; layers.len()], layers);
        }
        let rest = apportion(budget - floors.iter().sum::<usize>(), &above, &room);
        floors.iter().zip(rest).map(|(floor, rest)| floor + rest).collect()
    }

    fn validate(&self) -> Result<()> {
        match (0.0..=1.0).contains(&self.least) {
            true => Ok(()),
            false => Err(Error::invalid("dynamicKV.least", self.least, "between 0 and 1")),
        }
    }
}
