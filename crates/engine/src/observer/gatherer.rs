//! Gatherers of a policy, one a layer, with passes that may fail.

use std::sync::Arc;

/// One gatherer a layer. A pass adds to a copy that [`commit`](Gatherers::commit) puts in the place of what was there.
#[derive(Clone)]
pub struct Gatherers<T> {
    layers: Vec<Arc<T>>,
    staged: Vec<Option<T>>,
}

impl<T: Clone> Gatherers<T> {
    /// Copies of an empty gatherer.
    pub fn new(layers: usize, empty: T) -> Self {
        let empty = Arc::new(empty);
        Self { layers: vec![empty; layers], staged: (0..layers).map(|_| None).collect() }
    }

    /// What was gathered of a layer.
    pub fn layer(&self, layer: usize) -> &T {
        &self.layers[layer]
    }

    /// The layer's gatherer for a pass to add to.
    pub fn stage(&mut self, layer: usize) -> &mut T {
        self.staged[layer].get_or_insert_with(|| T::clone(&self.layers[layer]))
    }

    /// Takes over what the pass brought.
    pub fn commit(&mut self) {
        for (layer, staged) in self.layers.iter_mut().zip(&mut self.staged) {
            if let Some(staged) = staged.take() {
                *layer = Arc::new(staged);
            }
        }
    }

    /// Forgets what the pass brought.
    pub fn discard(&mut self) {
        self.staged.fill_with(|| None);
    }

    /// The sum of `bytes` over the layers.
    pub fn bytes(&self, bytes: impl Fn(&T) -> usize) -> usize {
        self.layers.iter().map(|layer| bytes(layer)).sum()
    }
}
