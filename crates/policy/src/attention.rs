//! Attention of the last queries, for scorers and filters that need it row by row.

use headwise_core::{Error, Result};
use headwise_kernels::{Block, Window, WindowScores, window_scores};

use crate::LayerInput;

/// Softmax rows of the window over all slots of a KV head, `[group][rows][slots]`, the window's own columns among them.
pub(crate) fn rows<B: Block>(
    layer: &LayerInput<B>,
    who: &str,
    window: usize,
    head: usize,
) -> Result<Vec<Vec<Vec<f32>>>> {
    let (queries, positions) = layer.window(who, window)?;
    if positions.is_empty() {
        return Err(Error::ObservationMissing { scorer: who.into(), what: "queries".into(), need: 1, have: 0 });
    }
    let query_heads = layer.shape.query_heads();
    let width = query_heads * layer.shape.head_dim;
    let kernel = WindowScores { rows: window_scores::RowReduce::Sum };
    let view = layer.heads[head];
    let mut of_group = vec![Vec::with_capacity(positions.len()); layer.shape.group];
    for (row, position) in positions.iter().enumerate() {
        let window = Window {
            queries: &queries[row * width..][..width],
            positions: std::slice::from_ref(position),
            query_heads,
            scale: layer.scale,
        };
        let attention = kernel.run(&window, head, layer.heads.len(), view, layer.positions[head])?;
        for (of_head, row) in of_group.iter_mut().zip(attention.chunks_exact(view.len.max(1))) {
            of_head.push(row.to_vec());
        }
    }
    Ok(of_group)
}
