//! Remembers the last queries of every layer, across chunk borders: the observation window of SnapKV (arXiv 2404.14469)
//! and its kin.

use std::sync::Arc;

use headwise_core::{KvShape, Rotation};
use headwise_model::{LayerStep, LayerTap};

/// The last `window` post-RoPE queries of each layer, in a ring.
///
/// What a forward pass brings is staged and only taken over by [`commit`](QueryWindow::commit), so that a pass which fails
/// half-way leaves the window as it was. Clones share the ring until one of them commits.
#[derive(Clone)]
pub struct QueryWindow {
    window: usize,
    row: usize,
    /// Rows that were committed so far; row `n` lies at `n % window`.
    rows: usize,
    /// A layer's ring is allocated with its first query.
    ring: Vec<Arc<Vec<f32>>>,
    staged: Vec<Vec<f32>>,
    staged_rows: usize,
}

impl QueryWindow {
    /// An empty window of `window` queries for each layer of `shape`.
    pub fn new(shape: KvShape, window: usize) -> Self {
        let row = shape.query_heads() * shape.head_dim;
        let ring = (0..shape.layers).map(|_| Arc::default()).collect();
        Self { window, row, rows: 0, ring, staged: vec![Vec::new(); shape.layers], staged_rows: 0 }
    }

    /// Most queries that can be remembered.
    pub fn window(&self) -> usize {
        self.window
    }

    /// Queries that are remembered now.
    pub fn len(&self) -> usize {
        self.rows.min(self.window)
    }

    /// Nothing was seen yet.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The last `count` queries of a layer, oldest first: `[count][query heads][head_dim]`. `count` is at most [`len`](Self::len).
    pub fn last(&self, layer: usize, count: usize) -> Vec<f32> {
        let rows = self.rows - count..self.rows;
        let at = |row: usize| (row % self.window) * self.row;
        rows.flat_map(|row| &self.ring[layer][at(row)..at(row) + self.row]).copied().collect()
    }

    /// Bytes of what is remembered, shared ones included.
    pub fn bytes(&self) -> usize {
        self.ring.iter().map(|ring| ring.len() * size_of::<f32>()).sum()
    }

    /// Takes over what the pass brought.
    pub fn commit(&mut self) {
        for (ring, staged) in self.ring.iter_mut().zip(&mut self.staged) {
            let ring = Arc::make_mut(ring);
            ring.resize(self.window * self.row, 0.0);
            let kept = staged.len() / self.row;
            for (i, query) in staged.chunks_exact(self.row).enumerate() {
                let at = (self.rows + self.staged_rows - kept + i) % self.window * self.row;
                ring[at..at + self.row].copy_from_slice(query);
            }
            staged.clear();
        }
        self.rows += self.staged_rows;
        self.staged_rows = 0;
    }

    /// Forgets what the pass brought.
    pub fn discard(&mut self) {
        self.staged.iter_mut().for_each(Vec::clear);
        self.staged_rows = 0;
    }

    /// Turns what is remembered to where it stands now, `by` positions earlier.
    pub(super) fn turn_back(&mut self, rotation: &dyn Rotation, by: u32) {
        self.ring.iter_mut().for_each(|ring| rotation.renumber(&mut Arc::make_mut(ring)[..], by, 0));
    }

    /// Stages the last rows of a layer, `[rows][query heads][head_dim]`.
    pub(super) fn stage(&mut self, layer: usize, queries: &[f32]) {
        if self.window == 0 {
            return;
        }
        self.staged_rows = queries.len() / self.row;
        let kept = self.staged_rows.min(self.window);
        self.staged[layer].clear();
        self.staged[layer].extend_from_slice(&queries[queries.len() - kept * self.row..]);
    }
}

impl LayerTap for QueryWindow {
    fn layer(&mut self, step: &LayerStep<'_>) {
        self.stage(step.layer, step.queries);
    }
}

#[cfg(test)]
mod tests {
    use headwise_model::Turn;

    use super::*;

    #[derive(Debug)]
    struct Still;

    impl Rotation for Still {
        fn push_angles(&self, _: u32, _: &mut Vec<f32>, _: &mut Vec<f32>) {}
        fn rotate(&self, _: &mut [f32], _: &[f32], _: &[f32]) {}
    }

    const SHAPE: KvShape = KvShape { layers: 2, kv_heads: 1, group: 2, head_dim: 2 };

    /// Feeds rows `from..to`; every number of row r in layer l is 100 l + r.
    fn feed(window: &mut QueryWindow, from: usize, to: usize) {
        for layer in 0..SHAPE.layers {
            let queries: Vec<f32> = (from..to).flat_map(|r| [(100 * layer + r) as f32; 4]).collect();
            let turn = Turn { rotation: &Still, cos: &[], sin: &[] };
            let first_position = from as u32;
            window.layer(&LayerStep {
                layer,
                first_position,
                rows: to - from,
                queries: &queries,
                keys: &[],
                turn,
                inputs: &[],
            });
        }
    }

    fn rows(window: &QueryWindow, layer: usize) -> Vec<usize> {
        window.last(layer, window.len()).chunks(4).map(|row| row[0] as usize).collect()
    }

    #[test]
    fn the_window_is_the_same_however_the_prompt_is_cut() {
        for cuts in [&[0, 20][..], &[0, 1, 2, 19, 20], &[0, 7, 14, 20], &[0, 3, 6, 9, 12, 15, 18, 20]] {
            let mut window = QueryWindow::new(SHAPE, 6);
            for cut in cuts.windows(2) {
                feed(&mut window, cut[0], cut[1]);
                window.commit();
            }
            assert_eq!(rows(&window, 0), (14..20).collect::<Vec<_>>(), "{cuts:?}");
            assert_eq!(rows(&window, 1), (114..120).collect::<Vec<_>>());
            assert_eq!(window.last(1, 2)[0], 118.0);
        }
    }

    #[test]
    fn a_failed_pass_leaves_no_trace() {
        let mut window = QueryWindow::new(SHAPE, 4);
        feed(&mut window, 0, 3);
        window.commit();
        feed(&mut window, 3, 9);
        window.discard();
        assert_eq!(rows(&window, 0), [0, 1, 2]);
        feed(&mut window, 3, 5);
        window.commit();
        assert_eq!(rows(&window, 0), [1, 2, 3, 4]);
    }
}
