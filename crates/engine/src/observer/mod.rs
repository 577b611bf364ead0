//! What a session remembers of its passes, because its policy asked for it.
//!
//! What a pass brings is staged and only taken over by [`Observer::commit`], so that a pass which fails half-way leaves no trace. Clones share
//! what is remembered until one of them commits.

mod sums;
mod window;

pub use sums::RunningSums;
pub use window::QueryWindow;

use headwise_cache::BlockHandle;
use headwise_core::{KvShape, Selection};
use headwise_kernels::HeadView;
use headwise_model::{LayerStep, LayerTap};
use headwise_policy::Needs;

/// The last queries and, where they are needed, the running sums of attention.
#[derive(Clone)]
pub struct Observer {
    window: QueryWindow,
    sums: Option<RunningSums>,
}

impl Observer {
    /// Remembers nothing yet and gathers what `needs` says, for each layer of `shape`.
    pub fn new(shape: KvShape, needs: Needs) -> Self {
        let window = QueryWindow::new(shape, needs.window_queries);
        Self { window, sums: needs.running_sums.then(|| RunningSums::new(shape)) }
    }

    /// The last queries.
    pub fn window(&self) -> &QueryWindow {
        &self.window
    }

    /// The running sums, if they are gathered.
    pub fn sums(&self) -> Option<&RunningSums> {
        self.sums.as_ref()
    }

    /// Bytes of what is remembered, shared ones included.
    pub fn bytes(&self) -> usize {
        self.window.bytes() + self.sums.as_ref().map_or(0, RunningSums::bytes)
    }

    /// Takes over what the pass brought.
    pub fn commit(&mut self) {
        self.window.commit();
        if let Some(sums) = &mut self.sums {
            sums.commit();
        }
    }

    /// Forgets what the pass brought.
    pub fn discard(&mut self) {
        self.window.discard();
        if let Some(sums) = &mut self.sums {
            sums.discard();
        }
    }

    /// Follows a compaction of the cache, layer by layer.
    pub fn compact(&mut self, selections: &[Selection]) {
        if let Some(sums) = &mut self.sums {
            sums.compact(selections);
        }
    }
}

impl LayerTap for Observer {
    fn layer(&mut self, step: &LayerStep<'_>) {
        self.window.layer(step);
    }

    fn sums(&mut self, layer: usize, heads: &[HeadView<'_, BlockHandle>]) -> Option<&mut [f32]> {
        self.sums.as_mut().map(|sums| sums.stage(layer, heads))
    }
}
