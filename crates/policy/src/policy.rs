//! The composed form and how it is applied.

use headwise_core::{Error, KvShape, Ragged, Result, Scores, Selection};
use headwise_kernels::{Block, ReuseBuffers, first_nan};
use rayon::prelude::*;
use serde::Serialize;

use crate::filters::Admit;
use crate::output_norms::OutputLengths;
use crate::selectors::Candidates;
use crate::{
    Allocate, Allocator, Budget, Compat, CustomPolicy, Filter, LayerInput, Needs, Protect, Schedule, Score, Scorer,
    SecondStage, Select, Selector, Share,
};

/// Scorer + filter + allocator + selector + second stage + protection + budget + schedule. Made from a [`crate::PolicySpec`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// How much a slot is worth.
    pub scorer: Scorer,
    /// How the budget is split over the layers.
    pub allocator: Allocator,
    /// Which slots stay.
    pub selector: Selector,
    /// Which slots may compete at all; `None`: all.
    pub filter: Option<Filter>,
    /// A second look at what stays.
    pub second_stage: Option<SecondStage>,
    /// What may not be evicted, beside the scorer's window.
    pub protect: Protect,
    /// How much may stay.
    pub budget: Budget,
    /// When a session compresses by itself.
    pub schedule: Schedule,
    /// Whether a cut closes the gaps that it leaves.
    pub renumber: bool,
    /// Whose arithmetic to reproduce; `None` is exact.
    pub compat: Option<Compat>,
}

impl TryFrom<CustomPolicy> for Policy {
    type Error = Error;

    fn try_from(spec: CustomPolicy) -> Result<Self> {
        let common = spec.common;
        let Some(budget) = common.budget else {
            let reason = "no budget: give one of tokensPerHead, keep, ratio, bytes".into();
            return Err(Error::InvalidPolicy { reason });
        };
        let policy = Self {
            scorer: spec.scorer,
            allocator: spec.allocator,
            selector: spec.selector,
            filter: spec.filter,
            second_stage: spec.second_stage,
            protect: common.protect,
            budget,
            schedule: common.schedule,
            renumber: common.renumber,
            compat: common.compat,
        };
        policy.scorer.validate()?;
        policy.allocator.validate()?;
        policy.selector.validate()?;
        policy.filter.as_ref().map_or(Ok(()), Filter::validate)?;
        policy.second_stage.as_ref().map_or(Ok(()), SecondStage::validate)?;
        policy.protect.validate()?;
        policy.budget.validate()?;
        policy.composes()?;
        if let Some(compat) = policy.compat {
            compat.validate(&policy)?;
        }
        Ok(policy)
    }
}

/// The slots of one layer, told apart by whether they compete. `[kv head]`, ascending. What a filter has left out is in neither.
pub(crate) struct Slots {
    protected: Vec<Vec<u32>>,
    open: Vec<Vec<u32>>,
}

impl Policy {
    /// What has to be gathered during prefill.
    pub fn needs(&self) -> Needs {
        if self.keeps_all() {
            return Needs::default();
        }
        let filter = self.filter.as_ref().map_or_else(Needs::default, Filter::needs);
        self.scorer.needs().and(self.allocator.needs()).and(filter)
    }

    /// Whether nothing is ever evicted.
    pub fn keeps_all(&self) -> bool {
        self.budget.is_everything() && self.filter.is_none()
    }

    /// Whether a session compresses by itself after each prefill.
    pub fn compresses_after_prefill(&self) -> bool {
        self.schedule == Schedule::AfterPrefill && !self.keeps_all()
    }

    /// Scores of one layer, `[kv head][slot]`, higher = keep.
    pub fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        Ok(self.judge(layer)?.0)
    }

    /// Scores of one layer, and its weight where the allocator reads it off the same observation.
    fn judge<B: Block>(&self, layer: &LayerInput<B>) -> Result<(Scores, Option<f64>)> {
        let heads = layer.shape.layers * layer.shape.kv_heads;
        let layer = &LayerInput { budget: self.slots_in_all(layer, heads) / heads.max(1), ..*layer };
        let both = if self.compat.is_none() { self.allocator.judge(&self.scorer, layer)? } else { None };
        let (scores, weight) = match (both, self.compat) {
            (Some((scores, weight)), _) => (scores, Some(weight)),
            (None, Some(compat)) => (compat.score(self, layer)?, None),
            (None, None) => (self.scorer.score(layer)?, None),
        };
        match first_nan(scores.data()) {
            Some(index) => Err(Error::NotANumber { what: format!("scores of layer {}", layer.layer), index }),
            None => Ok((scores, weight)),
        }
    }

    /// What stays of every layer, `[layers]` in, `[layers]` out. Deterministic for any number of threads.
    ///
    /// Without `compat` all layers of the session must be there; Σ kept is the budget, or everything where there is less.
    /// [`Error::BudgetBelowProtected`] when the protected slots alone are more than the budget.
    pub fn compress<B: Block>(&self, layers: &[LayerInput<B>]) -> Result<Vec<Selection>> {
        layers.iter().try_for_each(LayerInput::validate)?;
        let _reuse = ReuseBuffers::start();
        if let Some(compat) = self.compat {
            return compat.compress(self, layers);
        }
        let Some(first) = layers.first() else { return Ok(Vec::new()) };
        if layers.len() != first.shape.layers || layers.iter().enumerate().any(|(index, input)| input.layer != index) {
            return Err(Error::ShapeMismatch {
                what: "layers to compress".into(),
                expected: vec![first.shape.layers],
                got: vec![layers.len()],
            });
        }
        let heads = first.shape.layers * first.shape.kv_heads;
        let budget = self.slots_in_all(first, heads);
        let all: usize = layers.iter().flat_map(|layer| layer.heads).map(|head| head.len).sum();
        if all <= budget && self.filter.is_none() {
            return Ok(layers.iter().map(|layer| Selection::all(&layer.lengths())).collect());
        }

        let mut slots: Vec<Slots> = layers.iter().map(|layer| self.slots(layer)).collect();
        let protected: usize = slots.iter().flat_map(|layer| &layer.protected).map(Vec::len).sum();
        if budget < protected {
            return Err(self.below_protected(budget, protected, heads));
        }
        // Scores are computed only where there is something to choose: a scorer that cannot judge a layer need not.
        let needs_all = self.allocator.weighs() || self.selector.spans_layers() || self.filter_uses_scores();
        let judged = each(layers, |layer| {
            let layer = &LayerInput { output_lengths: Some(&OutputLengths::new(layer.heads.len())), ..*layer };
            let (scores, weight) = match needs_all {
                true => self.judge(layer).map(|(scores, weight)| (Some(scores), weight))?,
                false => (None, None),
            };
            let admit = |filter: &Filter| {
                let none = Scores::from_rows([]);
                filter.admit(layer, scores.as_ref().unwrap_or(&none), &slots[layer.layer].open)
            };
            let admitted = self.filter.as_ref().map(admit).transpose()?;
            Ok((scores, weight, admitted))
        })?;
        let (mut scores, mut weights) = (Vec::with_capacity(layers.len()), Vec::with_capacity(layers.len()));
        for (slots, (of_layer, weight, admitted)) in slots.iter_mut().zip(judged) {
            scores.push(of_layer);
            weights.push(weight);
            admitted.iter().for_each(|admitted| slots.admit(admitted));
        }
        let available: Vec<usize> = slots.iter().map(|layer| layer.open.iter().map(Vec::len).sum()).collect();
        let budget = (budget - protected).min(available.iter().sum());
        let mut candidates: Vec<Option<Candidates>> = Vec::with_capacity(layers.len());
        for (layer, scores) in layers.iter().zip(&mut scores) {
            candidates.push(scores.take().map(|scores| slots[layer.layer].candidates(layer, &scores)));
        }
        let budgets = self.split(budget, &available, layers, &candidates, &weights)?;
        let whole =
            |layer: usize| !self.selector.spans_layers() && (budgets[layer] == 0 || budgets[layer] == available[layer]);
        let missing = each(layers, |layer| match candidates[layer.layer].is_some() || whole(layer.layer) {
            true => Ok(None),
            false => Ok(Some(slots[layer.layer].candidates(layer, &self.score(layer)?))),
        })?;
        let candidates: Vec<Candidates> = candidates
            .into_iter()
            .zip(missing)
            .zip(&slots)
            .map(|((there, missing), slots)| there.or(missing).unwrap_or_else(|| slots.unscored()))
            .collect();
        let counts = self.selector.counts_of_layers(&candidates, &budgets)?;
        each(layers, |layer| {
            let (index, lengths) = (layer.layer, layer.lengths());
            let own = &slots[index];
            if counts[index].iter().zip(&own.open).all(|(&count, open)| count == open.len()) {
                return own.keep(&all_of(&own.open), &lengths);
            }
            let decides = index - index % self.selector.layers_per_choice();
            let chosen = match &self.second_stage {
                Some(stage) => stage.pick(layer, &own.open, &candidates[index], &counts[index])?,
                None if counts[decides] == counts[index] && slots[decides].open == own.open => {
                    self.selector.pick(&candidates[decides], &counts[index])?
                }
                None => self.selector.pick(&candidates[index], &counts[index])?,
            };
            own.keep(&chosen, &lengths)
        })
    }

    /// Whether a cache of `slots` slots, of which each takes `slot_bytes`, stays whole after `seen` tokens, whatever the scores.
    pub fn fits(&self, slots: usize, seen: usize, shape: KvShape, slot_bytes: usize) -> bool {
        self.filter.is_none() && slots <= self.budget.slots(seen, shape.layers * shape.kv_heads, slot_bytes)
    }

    /// What the budget allows over `heads` heads of all layers.
    fn slots_in_all<B: Block>(&self, layer: &LayerInput<B>, heads: usize) -> usize {
        let slot_bytes = layer.heads.first().map_or(1, |head| layer.shape.slot_bytes(head.layout.codec));
        self.budget.slots(layer.seen, heads, slot_bytes)
    }

    fn filter_uses_scores(&self) -> bool {
        self.filter.as_ref().is_some_and(Filter::uses_scores)
    }

    /// What the layers get of `budget`, which is at most all that is available.
    fn split<B: Block>(
        &self,
        budget: usize,
        available: &[usize],
        layers: &[LayerInput<B>],
        candidates: &[Option<Candidates>],
        weights: &[Option<f64>],
    ) -> Result<Vec<usize>> {
        let scores = |layer: usize| candidates[layer].as_ref().map(|candidates| &candidates.scores);
        let weights = each(layers, |layer| match (weights[layer.layer], scores(layer.layer)) {
            (Some(weight), _) => Ok(weight),
            (None, Some(scores)) if self.allocator.weighs() => self.allocator.weigh(layer, scores),
            (None, _) => Ok(1.0),
        })?;
        let share = |layer: usize| Share { available: available[layer], weight: weights[layer], scores: scores(layer) };
        let shares: Vec<Share> = (0..layers.len()).map(share).collect();
        Ok(self.allocator.allocate(budget, &shares))
    }

    /// [`Error::InvalidPolicy`] for parts that contradict each other.
    fn composes(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::InvalidPolicy { reason });
        if self.selector.spans_layers() && !matches!(self.allocator, Allocator::Uniform(_)) {
            let (selector, allocator) = (self.selector.kind(), self.allocator.kind());
            return refuse(format!("selector {selector} lets layers compete, so allocator {allocator} has no say"));
        }
        if self.second_stage.is_some() && !self.selector.keeps_the_best() {
            let selector = self.selector.kind();
            return refuse(format!("a second stage chooses slot by slot, which selector {selector} does not"));
        }
        Ok(())
    }

    /// Whether each of these positions of a layer is protected, after `seen` tokens.
    pub(crate) fn protected(&self, layer: usize, seen: usize, positions: &[u32]) -> impl Iterator<Item = bool> {
        let window = seen.saturating_sub(self.scorer.window());
        let whole = layer < self.protect.layers;
        positions.iter().map(move |&position| whole || position as usize >= window || self.protect.covers(position))
    }

    pub(crate) fn slots<B: Block>(&self, layer: &LayerInput<B>) -> Slots {
        let split = |positions: &&[u32]| {
            let mut split = (Vec::new(), Vec::new());
            for (slot, protected) in (0..).zip(self.protected(layer.layer, layer.seen, positions)) {
                if protected { split.0.push(slot) } else { split.1.push(slot) }
            }
            split
        };
        let (protected, open) = layer.positions.iter().map(split).unzip();
        Slots { protected, open }
    }

    pub(crate) fn below_protected(&self, budget: usize, protected: usize, heads: usize) -> Error {
        let Protect { sinks, layers, spans } = &self.protect;
        let mut parts = vec![format!("the window of {}", self.scorer.window())];
        parts.extend((*sinks > 0).then(|| format!("{sinks} sinks")));
        parts.extend((*layers > 0).then(|| format!("the first {layers} layers")));
        parts.extend((!spans.is_empty()).then(|| format!("{} spans", spans.len())));
        Error::BudgetBelowProtected {
            budget: budget / heads.max(1),
            protected: protected.div_ceil(heads.max(1)),
            what: format!("{}; a head, on average over {heads}", parts.join(", ")),
        }
    }
}

impl Slots {
    /// The competing slots with their scores, from those of all slots.
    pub(crate) fn candidates<B>(&self, layer: &LayerInput<B>, scores: &Scores) -> Candidates {
        let heads = self.open.iter().enumerate();
        let rows = heads.clone().map(|(head, open)| {
            let row = scores.row(head);
            open.iter().map(|&slot| row[slot as usize]).collect()
        });
        let positions =
            heads.map(|(head, open)| open.iter().map(|&slot| layer.positions[head][slot as usize]).collect());
        Candidates { scores: Scores::from_rows(rows), positions: positions.collect() }
    }

    /// Candidates that nobody needs to tell apart.
    fn unscored(&self) -> Candidates {
        let zeros = self.open.iter().map(|open| vec![0.0; open.len()]);
        Candidates { scores: Scores::from_rows(zeros), positions: self.open.clone() }
    }

    /// Takes away what a filter does not admit.
    fn admit(&mut self, admitted: &[Vec<bool>]) {
        for (open, admitted) in self.open.iter_mut().zip(admitted) {
            open.retain(|&slot| admitted[slot as usize]);
        }
    }

    /// The protected slots and the chosen ones of the open slots (`chosen` indexes `open`), ascending.
    pub(crate) fn keep(&self, chosen: &Ragged<u32>, lengths: &[usize]) -> Result<Selection> {
        let rows = (0..lengths.len()).map(|head| {
            let open = &self.open[head];
            let mut row = self.protected[head].clone();
            row.extend(chosen.row(head).iter().map(|&index| open[index as usize]));
            row.sort_unstable();
            row
        });
        Selection::new(Ragged::from_rows(rows), lengths)
    }
}

fn all_of(open: &[Vec<u32>]) -> Ragged<u32> {
    Ragged::from_rows(open.iter().map(|row| (0..row.len() as u32).collect()))
}

/// Runs `f` on every layer in parallel; the first error in layer order wins, whichever thread was first.
pub(crate) fn each<B: Block, T: Send>(
    layers: &[LayerInput<B>],
    f: impl Fn(&LayerInput<B>) -> Result<T> + Sync + Send,
) -> Result<Vec<T>> {
    layers.par_iter().map(f).collect::<Vec<_>>().into_iter().collect()
}
