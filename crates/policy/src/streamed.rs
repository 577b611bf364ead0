//! [`Policy::compress`] layer by layer.

use headwise_core::{Error, KvShape, Ragged, Result, Selection};
use headwise_kernels::{Block, ReuseBuffers};
use rayon::prelude::*;

use crate::policy::Slots;
use crate::selectors::Stream;
use crate::{LayerInput, Policy, Selector};

/// The choice of a policy whose layers compete ([`crate::AcrossLayers`]), made while the layers come one by one: after each of them, what can still be
/// among the best stays, and the rest can go at once. What is held is never more than the budget and one layer, and in the end it is what
/// [`Policy::compress`] keeps. (Observation of the field's: a slot's place does not depend on layers that follow.)
pub struct Streamed {
    policy: Policy,
    shape: KvShape,
    seen: usize,
    stream: Stream,
    layers: Vec<Held>,
}

/// A layer that has come.
struct Held {
    slots: Slots,
    /// Of the competing slots of each head, by their place among these, the best first.
    best: Vec<Vec<u32>>,
    /// Slots of each head that are still there, ascending, as they were counted when the layer came.
    kept: Vec<Vec<u32>>,
}

impl Streamed {
    /// For a text of `seen` tokens, whole in every layer, of which a slot takes `slot_bytes`.
    ///
    /// # Errors
    /// [`Error::UnsupportedFeature`] for a policy that has to see all layers at once, [`Error::BudgetBelowProtected`] as [`Policy::compress`].
    pub fn new(policy: &Policy, shape: KvShape, seen: usize, slot_bytes: usize) -> Result<Self> {
        let refuse = |value: &str| {
            Err(Error::UnsupportedFeature { feature: "a choice layer by layer with".into(), value: value.into() })
        };
        let rule = match (&policy.selector, &policy.filter, policy.compat) {
            (Selector::AcrossLayers(rule), None, None) if policy.second_stage.is_none() => *rule,
            (Selector::AcrossLayers(_), ..) => return refuse("a filter, a second stage or compat"),
            (selector, ..) => return refuse(&format!("selector {}", selector.kind())),
        };
        let heads = shape.layers * shape.kv_heads;
        let positions: Vec<u32> = (0..seen as u32).collect();
        let protected: usize = (0..shape.layers)
            .map(|layer| policy.protected(layer, seen, &positions).filter(|&kept| kept).count() * shape.kv_heads)
            .sum();
        let budget = policy.budget.slots(seen, heads, slot_bytes);
        let Some(open) = budget.checked_sub(protected) else {
            return Err(policy.below_protected(budget, protected, heads));
        };
        let stream = Stream::new(rule, open.min(heads * seen - protected), heads);
        Ok(Self { policy: policy.clone(), shape, seen, stream, layers: Vec::with_capacity(shape.layers) })
    }

    /// Takes the next layer, whole. Gives what stays of each layer so far, this one too, by its slots as they are now.
    pub fn push<B: Block>(&mut self, layer: &LayerInput<B>) -> Result<Vec<Selection>> {
        layer.validate()?;
        let whole = layer.lengths().iter().all(|&len| len == self.seen);
        if (layer.layer, layer.seen, layer.shape) != (self.layers.len(), self.seen, self.shape) || !whole {
            return Err(Error::ShapeMismatch {
                what: "next layer, tokens seen and slots".into(),
                expected: vec![self.layers.len(), self.seen, self.seen],
                got: vec![layer.layer, layer.seen, layer.lengths().into_iter().min().unwrap_or(0)],
            });
        }
        let _reuse = ReuseBuffers::start();
        let slots = self.policy.slots(layer);
        let candidates = slots.candidates(layer, &self.policy.score(layer)?);
        self.stream.push(&candidates.scores);
        let best_first = |row: &[f32]| {
            let mut order: Vec<u32> = (0..row.len() as u32).collect();
            order.sort_unstable_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]).then(a.cmp(&b)));
            order
        };
        let rows: Vec<&[f32]> = candidates.scores.iter().collect();
        let best = rows.into_par_iter().map(best_first).collect();
        let kept = layer.lengths().into_iter().map(|len| (0..len as u32).collect()).collect();
        self.layers.push(Held { slots, best, kept });
        let counts = self.stream.counts().par_chunks(self.shape.kv_heads);
        self.layers.par_iter_mut().zip(counts).map(|(layer, counts)| layer.cut(counts, self.seen)).collect()
    }

    /// Slots that are held now, over all heads of the layers that have come.
    pub fn held(&self) -> usize {
        self.layers.iter().flat_map(|layer| &layer.kept).map(Vec::len).sum()
    }
}

impl Held {
    /// Keeps the best of each head, as many as counted; by the slots as they are now.
    fn cut(&mut self, counts: &[usize], seen: usize) -> Result<Selection> {
        let lengths: Vec<usize> = self.kept.iter().map(Vec::len).collect();
        if self.best.iter().zip(counts).all(|(best, &count)| best.len() == count) {
            return Ok(Selection::all(&lengths));
        }
        self.best.iter_mut().zip(counts).for_each(|(best, &count)| best.truncate(count));
        let best = Ragged::from_rows(self.best.iter().cloned());
        let stays = self.slots.keep(&best, &vec![seen; lengths.len()])?;
        let mut rows = Vec::with_capacity(lengths.len());
        for (head, kept) in self.kept.iter_mut().enumerate() {
            // Both ascend.
            let mut stays = stays.head(head).iter().peekable();
            let mut row = Vec::with_capacity(stays.len());
            for (place, slot) in (0..).zip(&*kept) {
                if stays.next_if_eq(&slot).is_some() {
                    row.push(place);
                }
            }
            *kept = row.iter().map(|&place: &u32| kept[place as usize]).collect();
            rows.push(row);
        }
        Selection::new(Ragged::from_rows(rows), &lengths)
    }
}
