use headwise_core::{Error, Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Admit;
use crate::about::{About, Asks, Describe, Reads};
use crate::gather::{Moments, QueryMoments};
use crate::scorers::{cholesky, gaussian, mix};
use crate::{LayerInput, Needs, attention, rows};

/// GVote (arXiv 2509.03136): the slots that queries to come would look at most, by a vote of drawn queries.
///
/// K is the fewest slots that hold the share `mass` of the last query's attention; each of `samples` queries, drawn from a normal distribution with the
/// mean and covariance of the prompt's queries before their rotation and turned to the positions that come next, admits its K best slots; a KV head
/// admits what any of its query heads does. The paper draws hidden states and maps them through W_Q: of a normal distribution that is the same
/// (models that normalise queries apart). The first 4 positions take no part in the statistics. There is no public code.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct GVote {
    /// Share of the last query's attention, in (0, 1]. Default 0.95.
    #[ts(optional, as = "Option<_>")]
    pub mass: f64,
    /// Queries that are drawn, 1 to 1024. Default 8.
    #[ts(optional, as = "Option<_>")]
    pub samples: usize,
    /// Other seeds, other draws. Default 0.
    #[ts(optional, as = "Option<_>")]
    pub seed: u32,
}

impl Describe for GVote {
    const ABOUT: About = About {
        source: "arXiv 2509.03136",
        asks: Asks::Agnostic,
        reads: &[Reads::Keys, Reads::Rotation],
        deviates: "Queries are drawn, where the paper draws hidden states, which is the same but for models that normalise queries; no public code.",
    };
}

/// Positions that the statistics leave out: attention sinks.
const SINKS: usize = 4;

impl Default for GVote {
    fn default() -> Self {
        Self { mass: 0.95, samples: 8, seed: 0 }
    }
}

impl GVote {
    /// Drawn queries of one query head, turned, `[samples][head_dim]`.
    fn draw<B: Block>(&self, layer: &LayerInput<B>, moments: &QueryMoments, query_head: usize) -> Result<Vec<f32>> {
        let (rotation, dim) = (layer.rotation("gVote")?, layer.shape.head_dim);
        let Moments { mean, mut covariance } = moments.of(query_head, SINKS);
        let trace: f64 = (0..dim).map(|i| covariance[i * dim + i]).sum();
        (0..dim).for_each(|i| covariance[i * dim + i] += 1e-6 * trace / dim as f64 + f64::MIN_POSITIVE);
        if !cholesky(&mut covariance, dim) {
            return Err(Error::NotANumber { what: "the covariance of queries".into(), index: query_head });
        }
        let seed = mix(mix(u64::from(self.seed)) ^ ((layer.layer * layer.shape.query_heads() + query_head) as u64));
        let mut drawn = Vec::with_capacity(self.samples * dim);
        for sample in 0..self.samples {
            let noise: Vec<f64> = (0..dim).map(|d| gaussian(seed, (sample * dim + d) as u64)).collect();
            let number = |i: usize| covariance[i * dim..][..=i].iter().zip(&noise).map(|(l, x)| l * x).sum::<f64>();
            let mut query: Vec<f32> = (0..dim).map(|i| (mean[i] + number(i)) as f32).collect();
            let (mut cos, mut sin) = (Vec::new(), Vec::new());
            rotation.push_angles((layer.next_rotary_position() + sample) as u32, &mut cos, &mut sin);
            rotation.rotate(&mut query, &cos, &sin);
            drawn.extend(query);
        }
        Ok(drawn)
    }

    /// What the queries admit of one KV head. `attention` are the last query's rows, `[group][slots]`, `drawn` the drawn ones, `[group][samples][dim]`.
    pub fn vote(&self, attention: &[Vec<f32>], drawn: &[Vec<f32>], keys: &[f32], dim: usize) -> Vec<bool> {
        let mut admitted = vec![false; keys.len() / dim];
        for (row, drawn) in attention.iter().zip(drawn) {
            let votes = super::nucleus::best_of(row, self.mass);
            let votes = votes.into_iter().filter(|&admitted| admitted).count();
            for query in drawn.chunks_exact(dim) {
                let dot = |key: &[f32]| key.iter().zip(query).map(|(k, q)| f64::from(k * q)).sum::<f64>();
                let products: Vec<f64> = keys.chunks_exact(dim).map(dot).collect();
                rows::falling(&products).into_iter().take(votes).for_each(|slot| admitted[slot] = true);
            }
        }
        admitted
    }
}

impl Admit for GVote {
    fn needs(&self) -> Needs {
        Needs { window_queries: 1, query_moments: true, ..Needs::default() }
    }

    fn uses_scores(&self) -> bool {
        false
    }

    fn admit<B: Block>(&self, layer: &LayerInput<B>, _: &Scores, _: &[Vec<u32>]) -> Result<Vec<Vec<bool>>> {
        let moments = layer.query_moments("gVote")?;
        let group = layer.shape.group;
        let head = |head: usize| {
            let attention: Vec<Vec<f32>> =
                attention::rows(layer, "gVote", 1, head)?.all().map(<[f32]>::to_vec).collect();
            let drawn = (head * group..(head + 1) * group).map(|query_head| self.draw(layer, moments, query_head));
            let drawn = drawn.collect::<Result<Vec<_>>>()?;
            Ok(self.vote(&attention, &drawn, &layer.heads[head].all_keys(), layer.shape.head_dim))
        };
        (0..layer.heads.len()).map(head).collect()
    }

    fn validate(&self) -> Result<()> {
        if !(self.mass > 0.0 && self.mass <= 1.0) {
            return Err(Error::invalid("gVote.mass", self.mass, "more than 0, at most 1"));
        }
        match (1..=1024).contains(&self.samples) {
            true => Ok(()),
            false => Err(Error::invalid("gVote.samples", self.samples, "between 1 and 1024")),
        }
    }
}
