//! Gatherers of a policy, one a layer, with passes that may fail.

use std::sync::Arc;

use headwise_core::Rotation;
use headwise_policy::gather::Gather;

/// One gatherer a layer. What a pass brings waits until [`commit`](Gatherers::commit). Clones share what was gathered until one of them commits.
#[derive(Clone)]
pub struct Gatherers<T: Gather> {
    layers: Vec<Arc<T>>,
    staged: Vec<Option<T::Rows>>,
}

impl<T: Gather> Gatherers<T> {
    /// Copies of an empty gatherer.
    pub fn new(layers: usize, empty: T) -> Self {
        let empty = Arc::new(empty);
        Self { layers: vec![empty; layers], staged: vec![None; layers] }
    }

    /// What was gathered of a layer.
    pub fn layer(&self, layer: usize) -> &T {
        &self.layers[layer]
    }

    /// The layer's rows of a pass.
    pub fn stage(&mut self, layer: usize, rows: T::Rows) {
        self.staged[layer] = Some(rows);
    }

    /// Takes over what the pass brought.
    pub fn commit(&mut self) {
        for (layer, staged) in self.layers.iter_mut().zip(&mut self.staged) {
            if let Some(rows) = staged.take() {
                Arc::make_mut(layer).take(&rows);
            }
        }
    }

    /// Forgets what the pass brought.
    pub fn discard(&mut self) {
        self.staged.fill(None);
    }

    /// See [`Gather::turn_back`].
    pub fn turn_back(&mut self, rotation: &dyn Rotation, by: u32) {
        self.layers.iter_mut().for_each(|layer| Arc::make_mut(layer).turn_back(rotation, by));
    }

    /// The sum of `bytes` over the layers.
    pub fn bytes(&self, bytes: impl Fn(&T) -> usize) -> usize {
        self.layers.iter().map(|layer| bytes(layer)).sum()
    }
}
