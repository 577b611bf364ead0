//! The attention that each slot has got so far: what H2O (arXiv 2306.14048) and its kin evict by.

use std::sync::Arc;

use headwise_cache::BlockHandle;
use headwise_core::{KvShape, Selection};
use headwise_kernels::HeadView;

/// Per layer and query head one running sum for each slot, over all queries since the slot was stored.
///
/// A pass adds to a copy, [`stage`](RunningSums::stage), that [`commit`](RunningSums::commit) puts in the place of what was there. The two
/// memories take turns, so that a steady state allocates only when the cache does.
#[derive(Clone)]
pub struct RunningSums {
    group: usize,
    layers: Vec<Arc<Layer>>,
    /// What a pass brought; no heads where it brought nothing.
    staged: Vec<Layer>,
}

#[derive(Clone, Default)]
struct Layer {
    /// Slots of each KV head.
    lengths: Vec<usize>,
    /// Per query head the sums of the slots of its KV head, head after head.
    sums: Vec<f32>,
}

impl RunningSums {
    /// No slots yet in each layer of `shape`.
    pub fn new(shape: KvShape) -> Self {
        let layers = (0..shape.layers).map(|_| Arc::default()).collect();
        Self { group: shape.group, layers, staged: vec![Layer::default(); shape.layers] }
    }

    /// The sums of a layer: per query head one number for each slot of its KV head, head after head.
    pub fn layer(&self, layer: usize) -> &[f32] {
        &self.layers[layer].sums
    }

    /// Bytes of what is remembered, shared ones included.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.sums.len() * size_of::<f32>()).sum()
    }

    /// The layer's sums for a pass to add to. `heads` hold the new slots already, which begin with zeros.
    pub fn stage(&mut self, layer: usize, heads: &[HeadView<'_, BlockHandle>]) -> &mut [f32] {
        let (old, new) = (&self.layers[layer], &mut self.staged[layer]);
        new.lengths.clear();
        new.lengths.extend(heads.iter().map(|head| head.len));
        new.sums.clear();
        // Room for what the cache has room for, so that the two grow together.
        let room = |head: &HeadView<'_, _>| head.layout.blocks_for(head.len) * head.layout.slots;
        new.sums.reserve(self.group * heads.iter().map(room).sum::<usize>());
        let mut rest = &old.sums[..];
        for (head, &len) in new.lengths.iter().enumerate() {
            let had = old.lengths.get(head).copied().unwrap_or(0);
            debug_assert!(had <= len, "a cache that lost slots takes its sums with it");
            for _ in 0..self.group {
                let (row, after) = rest.split_at(had);
                rest = after;
                new.sums.extend_from_slice(row);
                new.sums.resize(new.sums.len() + len - had, 0.0);
            }
        }
        &mut new.sums
    }

    /// Takes over what the pass brought.
    pub fn commit(&mut self) {
        for (layer, staged) in self.layers.iter_mut().zip(&mut self.staged) {
            if staged.lengths.is_empty() {
                continue;
            }
            match Arc::get_mut(layer) {
                Some(layer) => {
                    std::mem::swap(layer, staged);
                    staged.sums.clear();
                    // When one memory has grown, so does the other.
                    staged.sums.reserve_exact(layer.sums.capacity());
                }
                None => *layer = Arc::new(std::mem::take(staged)),
            }
            staged.lengths.clear();
        }
    }

    /// Forgets what the pass brought.
    pub fn discard(&mut self) {
        for staged in &mut self.staged {
            staged.lengths.clear();
            staged.sums.clear();
        }
    }

    /// A slot that stays keeps its sums.
    pub fn compact(&mut self, selections: &[Selection]) {
        for (layer, selection) in self.layers.iter_mut().zip(selections) {
            let lengths: Vec<usize> = (0..selection.heads()).map(|head| selection.head(head).len()).collect();
            let mut sums = Vec::with_capacity(self.group * lengths.iter().sum::<usize>());
            let mut rest = &layer.sums[..];
            for (head, &had) in layer.lengths.iter().enumerate() {
                for _ in 0..self.group {
                    let (row, after) = rest.split_at(had);
                    rest = after;
                    sums.extend(selection.head(head).iter().map(|&slot| row[slot as usize]));
                }
            }
            *layer = Arc::new(Layer { lengths, sums });
        }
        // Their memory is that of the cache before.
        self.staged.iter_mut().for_each(|staged| *staged = Layer::default());
    }
}
