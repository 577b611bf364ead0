//! What a session remembers of its passes, because its policy asked for it.
//!
//! What a pass brings is staged and only taken over by [`Observer::commit`], so that a pass which fails half-way leaves no trace. Clones share
//! what is remembered until one of them commits.

mod gatherer;
mod sums;
mod window;

pub use gatherer::Gatherers;
pub use sums::RunningSums;
pub use window::QueryWindow;

use headwise_cache::BlockHandle;
use headwise_core::{KvShape, Rotation, Selection};
use headwise_kernels::HeadView;
use headwise_kernels::attend::{ColumnReduce, Columns};
use headwise_model::{LayerStep, LayerTap};
use headwise_policy::gather::{ChunkAttention, Echo, QueryMoments};
use headwise_policy::{Gathered, Needs};

/// The last queries and whatever else is needed.
#[derive(Clone)]
pub struct Observer {
    shape: KvShape,
    window: QueryWindow,
    sums: Option<RunningSums>,
    moments: Option<Gatherers<QueryMoments>>,
    chunks: Vec<Gatherers<ChunkAttention>>,
    echoes: Vec<Gatherers<Echo>>,
}

/// What was gathered, ready to be lent to a policy layer by layer.
pub struct View<'a> {
    observer: &'a Observer,
    /// `[layer][grid]`
    chunks: Vec<Vec<&'a ChunkAttention>>,
    /// `[layer][chunk length]`
    echoes: Vec<Vec<&'a Echo>>,
}

impl View<'_> {
    /// What was gathered of a layer.
    pub fn layer(&self, layer: usize) -> Gathered<'_> {
        Gathered {
            running_sums: self.observer.sums.as_ref().map(|sums| sums.layer(layer)),
            query_moments: self.observer.moments.as_ref().map(|moments| moments.layer(layer)),
            chunk_attention: &self.chunks[layer],
            echo: &self.echoes[layer],
            token_classes: None,
            probe: None,
        }
    }
}

impl Observer {
    /// Remembers nothing yet and gathers what `needs` says, for each layer of `shape`.
    pub fn new(shape: KvShape, needs: &Needs) -> Self {
        let of_grid = |&grid: &_| Gatherers::new(shape.layers, ChunkAttention::new(shape, grid));
        Self {
            shape,
            window: QueryWindow::new(shape, needs.window_queries),
            sums: needs.running_sums.then(|| RunningSums::new(shape)),
            moments: needs.query_moments.then(|| Gatherers::new(shape.layers, QueryMoments::new(shape))),
            echoes: needs.echo.iter().map(|&chunk| Gatherers::new(shape.layers, Echo::new(shape, chunk))).collect(),
            chunks: needs.chunk_attention.iter().map(of_grid).collect(),
        }
    }

    /// The last queries.
    pub fn window(&self) -> &QueryWindow {
        &self.window
    }

    /// The running sums, if they are gathered.
    pub fn running_sums(&self) -> Option<&RunningSums> {
        self.sums.as_ref()
    }

    /// What was gathered beside the last queries.
    pub fn gathered(&self, layers: usize) -> View<'_> {
        let chunks = |layer: usize| self.chunks.iter().map(|grid| grid.layer(layer)).collect();
        let echoes = |layer: usize| self.echoes.iter().map(|echo| echo.layer(layer)).collect();
        View { observer: self, chunks: (0..layers).map(chunks).collect(), echoes: (0..layers).map(echoes).collect() }
    }

    /// Bytes of what is remembered, shared ones included.
    pub fn bytes(&self) -> usize {
        self.window.bytes()
            + self.sums.as_ref().map_or(0, RunningSums::bytes)
            + self.moments.as_ref().map_or(0, |moments| moments.bytes(QueryMoments::bytes))
            + self.echoes.iter().map(|echo| echo.bytes(Echo::bytes)).sum::<usize>()
            + self.chunks.iter().map(|grid| grid.bytes(ChunkAttention::bytes)).sum::<usize>()
    }

    /// Whether it remembers nothing but queries.
    pub fn gathers_queries_only(&self) -> bool {
        self.sums.is_none() && self.moments.is_none() && self.chunks.is_empty() && self.echoes.is_empty()
    }

    /// Stages the last queries of a prompt that a layer has seen whole.
    pub fn remember(&mut self, layer: usize, queries: &[f32]) {
        self.window.stage(layer, queries);
    }

    /// Takes over what the pass brought.
    pub fn commit(&mut self) {
        self.window.commit();
        if let Some(sums) = &mut self.sums {
            sums.commit();
        }
        if let Some(moments) = &mut self.moments {
            moments.commit();
        }
        self.echoes.iter_mut().for_each(Gatherers::commit);
        self.chunks.iter_mut().for_each(Gatherers::commit);
    }

    /// Forgets what the pass brought.
    pub fn discard(&mut self) {
        self.window.discard();
        if let Some(sums) = &mut self.sums {
            sums.discard();
        }
        if let Some(moments) = &mut self.moments {
            moments.discard();
        }
        self.echoes.iter_mut().for_each(Gatherers::discard);
        self.chunks.iter_mut().for_each(Gatherers::discard);
    }

    /// Follows a compaction of the cache, layer by layer.
    pub fn compact(&mut self, selections: &[Selection]) {
        if let Some(sums) = &mut self.sums {
            sums.compact(selections);
        }
    }

    /// Follows a cut that closed gaps: what is remembered now stands `by` rotary positions earlier.
    pub fn turn_back(&mut self, rotation: &dyn Rotation, by: u32) {
        self.window.turn_back(rotation, by);
        self.echoes.iter_mut().for_each(|echo| echo.turn_back(rotation, by));
        self.chunks.iter_mut().for_each(|grid| grid.turn_back(rotation, by));
    }
}

impl LayerTap for Observer {
    fn layer(&mut self, step: &LayerStep<'_>) {
        self.window.layer(step);
        if let Some(moments) = &mut self.moments {
            let turn = step.turn;
            let rows = QueryMoments::unturned(step.queries, turn.rotation, turn.cos, turn.sin, self.shape);
            moments.stage(step.layer, rows);
        }
        for echo in &mut self.echoes {
            let chunk = echo.layer(step.layer).chunk();
            echo.stage(step.layer, Echo::moved(step.queries, step.keys, step.turn.rotation, chunk, self.shape));
        }
        for grid in &mut self.chunks {
            grid.stage(step.layer, (step.queries.to_vec(), step.keys.to_vec()));
        }
    }

    fn columns(&mut self, layer: usize, heads: &[HeadView<'_, BlockHandle>]) -> Option<Columns<'_>> {
        let sums = self.sums.as_mut()?;
        Some(Columns { reduce: ColumnReduce::Sum, out: sums.stage(layer, heads), factors: None })
    }
}
