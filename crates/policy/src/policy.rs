//! The composed form and how it is applied.

use headwise_core::{Error, Ragged, Result, Scores, Selection};
use headwise_kernels::Block;
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    Allocate, Allocator, Budget, Compat, CustomPolicy, LayerInput, Needs, Protect, Schedule, Score, Scorer, Select,
    Selector,
};

/// Scorer + allocator + selector + protection + budget + schedule. Made from a [`crate::PolicySpec`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// How much a slot is worth.
    pub scorer: Scorer,
    /// How the budget is split over the layers.
    pub allocator: Allocator,
    /// Which slots of a layer stay.
    pub selector: Selector,
    /// What may not be evicted, beside the scorer's window.
    pub protect: Protect,
    /// How much may stay.
    pub budget: Budget,
    /// When a session compresses by itself.
    pub schedule: Schedule,
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
            protect: common.protect,
            budget,
            schedule: common.schedule,
            compat: common.compat,
        };
        policy.scorer.validate()?;
        policy.allocator.validate()?;
        policy.selector.validate()?;
        policy.protect.validate()?;
        policy.budget.validate()?;
        if let Some(compat) = policy.compat {
            compat.validate(&policy)?;
        }
        Ok(policy)
    }
}

/// The slots of one layer, told apart by whether they compete. `[kv head]`, ascending.
struct Slots {
    protected: Vec<Vec<u32>>,
    open: Vec<Vec<u32>>,
}

impl Policy {
    /// What has to be gathered during prefill.
    pub fn needs(&self) -> Needs {
        if self.keeps_all() { Needs::default() } else { self.scorer.needs() }
    }

    /// Whether nothing is ever evicted.
    pub fn keeps_all(&self) -> bool {
        self.budget.is_everything()
    }

    /// Whether a session compresses by itself after each prefill.
    pub fn compresses_after_prefill(&self) -> bool {
        self.schedule == Schedule::AfterPrefill && !self.keeps_all()
    }

    /// Scores of one layer, `[kv head][slot]`, higher = keep.
    pub fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let scores = match self.compat {
            Some(compat) => compat.score(self, layer)?,
            None => self.scorer.score(layer)?,
        };
        match scores.data().iter().position(|score| score.is_nan()) {
            Some(index) => Err(Error::NotANumber { what: format!("scores of layer {}", layer.layer), index }),
            None => Ok(scores),
        }
    }

    /// What stays of every layer, `[layers]` in, `[layers]` out. Deterministic for any number of threads.
    ///
    /// Without `compat` all layers of the session must be there; Σ kept is the budget, or everything where there is less.
    /// [`Error::BudgetBelowProtected`] when the protected slots alone are more than the budget.
    pub fn compress<B: Block>(&self, layers: &[LayerInput<B>]) -> Result<Vec<Selection>> {
        layers.iter().try_for_each(LayerInput::validate)?;
        if let Some(compat) = self.compat {
            return each(layers, |layer| compat.select(self, layer));
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
        let slot_bytes = first.heads.first().map_or(1, |head| first.shape.slot_bytes(head.layout.codec));
        let budget = self.budget.slots(first.seen, heads, slot_bytes);
        if layers.iter().flat_map(|layer| layer.heads).map(|head| head.len).sum::<usize>() <= budget {
            return Ok(layers.iter().map(|layer| Selection::all(&layer.lengths())).collect());
        }

        let slots: Vec<Slots> = layers.iter().map(|layer| self.slots(layer)).collect();
        let protected: usize = slots.iter().flat_map(|layer| &layer.protected).map(Vec::len).sum();
        if budget < protected {
            return Err(self.below_protected(budget, protected, heads));
        }
        let available: Vec<usize> = slots.iter().map(|layer| layer.open.iter().map(Vec::len).sum()).collect();
        let budgets = self.allocator.allocate(budget - protected, &available);
        each(layers, |layer| {
            let slots = &slots[layer.layer];
            match budgets[layer.layer] {
                all if all == available[layer.layer] => slots.keep(&all_of(&slots.open), &layer.lengths()),
                // Nothing to choose: a scorer that cannot judge this layer need not.
                0 => slots.keep(&Ragged::from_rows(slots.open.iter().map(|_| Vec::new())), &layer.lengths()),
                budget => {
                    let scores = self.score(layer)?;
                    let open = slots.open.iter().enumerate().map(|(head, open)| {
                        let row = scores.row(head);
                        open.iter().map(|&slot| row[slot as usize]).collect()
                    });
                    slots.keep(&self.selector.select(&Scores::from_rows(open), budget)?, &layer.lengths())
                }
            }
        })
    }

    fn slots<B: Block>(&self, layer: &LayerInput<B>) -> Slots {
        let window = layer.seen.saturating_sub(self.scorer.window());
        let whole = layer.layer < self.protect.layers;
        let split = |positions: &&[u32]| {
            let kept = |slot: &u32| {
                let position = positions[*slot as usize];
                whole || position as usize >= window || self.protect.covers(position)
            };
            (0..positions.len() as u32).partition::<Vec<u32>, _>(kept)
        };
        let (protected, open) = layer.positions.iter().map(split).unzip();
        Slots { protected, open }
    }

    fn below_protected(&self, budget: usize, protected: usize, heads: usize) -> Error {
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
    /// The protected slots and the chosen ones of the open slots (`chosen` indexes `open`), ascending.
    fn keep(&self, chosen: &Ragged<u32>, lengths: &[usize]) -> Result<Selection> {
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
fn each<B: Block, T: Send>(
    layers: &[LayerInput<B>],
    f: impl Fn(&LayerInput<B>) -> Result<T> + Sync + Send,
) -> Result<Vec<T>> {
    layers.par_iter().map(f).collect::<Vec<_>>().into_iter().collect()
}
