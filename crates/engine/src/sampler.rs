//! Draws the next token from logits.

use std::cmp::Ordering;
use std::collections::HashSet;

use headwise_core::{Error, Result};
use headwise_kernels::first_nan;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::options::SamplerOptions;

/// One generation's sampler: options, random state and the buffer for candidates.
pub struct Sampler {
    options: SamplerOptions,
    rng: ChaCha8Rng,
    candidates: Vec<(u32, f32)>,
}

impl Sampler {
    /// A sampler with its own random stream; fails when an option is out of range.
    pub fn new(options: SamplerOptions) -> Result<Self> {
        options.validate()?;
        let rng = ChaCha8Rng::seed_from_u64(options.seed);
        Ok(Self { options, rng, candidates: Vec::new() })
    }

    /// The next token for `logits[vocab]`. `seen` are the tokens that the repetition penalty falls on.
    ///
    /// The penalty is that of CTRL (arXiv 1909.05858); top-p that of arXiv 1904.09751; min-p that of arXiv 2407.01082.
    pub fn sample(&mut self, logits: &[f32], seen: &HashSet<u32>) -> Result<u32> {
        if let Some(index) = first_nan(logits) {
            return Err(Error::NotANumber { what: "logits".into(), index });
        }
        let penalty = self.options.repetition_penalty;
        if self.options.temperature == 0.0 && penalty == 1.0 {
            let highest = highest(logits);
            let token = logits.iter().position(|&logit| logit == highest);
            return token.map(|token| token as u32).ok_or_else(|| Error::invalid("logits", "[]", "at least one"));
        }
        let penalized = |token: u32, logit: f32| match penalty != 1.0 && seen.contains(&token) {
            true if logit > 0.0 => logit / penalty,
            true => logit * penalty,
            false => logit,
        };
        let all = logits.iter().enumerate().map(|(token, &logit)| (token as u32, penalized(token as u32, logit)));
        if self.options.temperature == 0.0 {
            // `max_by` would take the last of equals; the lowest id must win.
            let best = all.reduce(|best, next| if next.1 > best.1 { next } else { best });
            return best.map(|(token, _)| token).ok_or_else(|| Error::invalid("logits", "[]", "at least one"));
        }
        self.candidates.clear();
        self.candidates.extend(all);
        self.draw()
    }

    /// Draws from the candidates, in O(n): only what top-p keeps is ever sorted.
    fn draw(&mut self) -> Result<u32> {
        let SamplerOptions { temperature, top_k, top_p, min_p, .. } = self.options;
        let candidates = &mut self.candidates;
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k, likelier);
            candidates.truncate(top_k);
        }
        let highest = candidates.iter().fold(f32::NEG_INFINITY, |highest, &(_, logit)| highest.max(logit));
        for (_, logit) in candidates.iter_mut() {
            // From here on the second number is exp((logit - highest) / temperature): a weight, 1 for the likeliest.
            *logit = ((*logit - highest) / temperature).exp();
        }
        if top_p < 1.0 {
            cut_at_mass(candidates, f64::from(top_p) * mass(candidates));
        }
        if min_p > 0.0 {
            candidates.retain(|&(_, weight)| weight >= min_p);
        }
        let mut rest = self.rng.random::<f64>() * mass(candidates);
        for &(token, weight) in candidates.iter() {
            rest -= f64::from(weight);
            if rest < 0.0 {
                return Ok(token);
            }
        }
        // Rounding left a little over.
        let last = candidates.iter().rfind(|&&(_, weight)| weight > 0.0);
        last.map(|&(token, _)| token).ok_or_else(|| Error::NotANumber { what: "logits".into(), index: 0 })
    }
}

/// The highest of numbers, none of which is NaN; -∞ of none.
fn highest(numbers: &[f32]) -> f32 {
    const LANES: usize = 16;
    let higher = |a: f32, b: f32| if a > b { a } else { b };
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane = higher(x, *lane));
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, higher)
}

/// Descending; equals by token.
fn likelier(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

fn mass(candidates: &[(u32, f32)]) -> f64 {
    candidates.iter().map(|&(_, weight)| f64::from(weight)).sum()
}

/// Keeps the likeliest candidates until together they weigh `enough`, in descending order. Sorts a few at first, then more.
fn cut_at_mass(candidates: &mut Vec<(u32, f32)>, enough: f64) {
    let (mut sorted, mut next, mut sum) = (0, 64, 0.0);
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let count = next.min(rest.len());
        if count < rest.len() {
            rest.select_nth_unstable_by(count, likelier);
        }
        rest[..count].sort_unstable_by(likelier);
        for (index, &(_, weight)) in rest[..count].iter().enumerate() {
            sum += f64::from(weight);
            if sum >= enough {
                return candidates.truncate(sorted + index + 1);
            }
        }
        sorted += count;
        next *= 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(options: SamplerOptions, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(options).unwrap();
        let mut counts = vec![0; logits.len()];
        for _ in 0..draws {
            counts[sampler.sample(logits, &HashSet::new()).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_lowest_id_of_the_highest() {
        assert_eq!(counts(SamplerOptions::default(), &[1.0, 3.0, 3.0, 2.0], 3), [0, 3, 0, 0]);
    }

    #[test]
    fn draws_follow_the_softmax_at_the_temperature() {
        // Weights 1 : 2 : 4 at temperature 2 are logits 0, 2 ln 2, 4 ln 2.
        let logits = [0.0, 2.0 * 2.0f32.ln(), 4.0 * 2.0f32.ln()];
        let counts = counts(SamplerOptions { temperature: 2.0, seed: 7, ..Default::default() }, &logits, 70_000);
        for (count, weight) in counts.iter().zip([1.0f64, 2.0, 4.0]) {
            // Five standard deviations of a binomial.
            let expected: f64 = 10_000.0 * weight;
            let deviation = (expected * (1.0 - weight / 7.0)).sqrt();
            assert!((*count as f64 - expected).abs() < 5.0 * deviation, "{counts:?}");
        }
    }

    #[test]
    fn cuts_keep_just_their_set() {
        let logits = [0.5f32, 0.3, 0.15, 0.05].map(f32::ln);
        let drawn = |options: SamplerOptions| {
            let counts = counts(SamplerOptions { temperature: 1.0, ..options }, &logits, 2_000);
            counts.iter().filter(|&&n| n > 0).count()
        };
        assert_eq!(drawn(SamplerOptions { top_k: 2, ..Default::default() }), 2);
        assert_eq!(drawn(SamplerOptions { top_p: 0.75, ..Default::default() }), 2);
        assert_eq!(drawn(SamplerOptions { top_p: 0.85, ..Default::default() }), 3);
        assert_eq!(drawn(SamplerOptions { min_p: 0.25, ..Default::default() }), 3);
        assert_eq!(drawn(SamplerOptions { min_p: 1.0, ..Default::default() }), 1);
    }

    #[test]
    fn top_p_keeps_what_a_full_sort_would_keep() {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 20) as f32 / 64.0
        };
        for n in [1, 63, 64, 65, 577, 5000] {
            // Few different weights, so that equals fall on every border.
            let all: Vec<(u32, f32)> = (0..n).map(|token| (token, noise().floor() + 1.0)).collect();
            for share in [0.0, 0.01, 0.5, 0.97, 1.0] {
                let (enough, mut sorted, mut cut) = (share * mass(&all), all.clone(), all.clone());
                sorted.sort_by(likelier);
                let mut sum = 0.0;
                let last = sorted.iter().position(|&(_, weight)| {
                    sum += f64::from(weight);
                    sum >= enough
                });
                sorted.truncate(last.unwrap() + 1);
                cut_at_mass(&mut cut, enough);
                assert_eq!(cut, sorted, "{n} {share}");
            }
        }
    }

    #[test]
    fn the_repetition_penalty_lowers_both_signs() {
        let options = SamplerOptions { repetition_penalty: 2.0, ..Default::default() };
        let mut sampler = Sampler::new(options).unwrap();
        let seen = HashSet::from([0]);
        assert_eq!(sampler.sample(&[3.0, 2.0], &seen).unwrap(), 1);
        assert_eq!(sampler.sample(&[-1.0, -1.5], &seen).unwrap(), 1);
    }

    #[test]
    fn a_seed_repeats_and_bad_numbers_are_refused() {
        let options = SamplerOptions { temperature: 1.0, seed: 3, ..Default::default() };
        let logits: Vec<f32> = (0..50).map(|i| (i % 7) as f32).collect();
        assert_eq!(counts(options.clone(), &logits, 100), counts(options.clone(), &logits, 100));
        let nan = Sampler::new(options).unwrap().sample(&[0.0, f32::NAN], &HashSet::new());
        assert_eq!(nan, Err(Error::NotANumber { what: "logits".into(), index: 1 }));
        for bad in [
            SamplerOptions { temperature: -1.0, ..Default::default() },
            SamplerOptions { top_p: 0.0, ..Default::default() },
            SamplerOptions { min_p: 1.5, ..Default::default() },
            SamplerOptions { repetition_penalty: 0.0, ..Default::default() },
        ] {
            assert!(matches!(Sampler::new(bad), Err(Error::InvalidArgument { .. })));
        }
    }
}
