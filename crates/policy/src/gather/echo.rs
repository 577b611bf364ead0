use bytemuck::cast_slice;
use headwise_core::{Codec, KvShape, Rotation};
use headwise_kernels::attend::{ColumnReduce, Columns, Job, Query, attend_batch};
use headwise_kernels::{BlockLayout, HeadView};

use super::Gather;

/// What the queries of a text would look at if the text were read once more: the queries and keys of each chunk are turned on by the length of the
/// chunk, as if they stood behind it, and the largest attention that each slot of the chunk gets from them is kept. Ours; an estimate of what
/// KVzip (arXiv 2505.23416) measures by a second reading, with the hidden states of the first one.
///
/// In the softmax are the first tokens of the text, the chunk, and of its second copy what stands before the query. A chunk is done as soon as it
/// is whole; the queries and keys of the last one are held until then.
#[derive(Debug, Clone, PartialEq)]
pub struct Echo {
    chunk: usize,
    shape: KvShape,
    /// The largest of the chunks that are done, `[positions][query heads]`.
    done: Vec<f32>,
    /// Keys of the first tokens, `[positions][KV heads][head_dim]`.
    sinks: Vec<f32>,
    /// Queries and keys behind them, `[positions][heads][head_dim]`, and the same as they are behind the chunk.
    queries: Vec<f32>,
    keys: Vec<f32>,
    moved: Vec<f32>,
}

/// What a pass brings to an [`Echo`].
#[derive(Debug, Clone, Default)]
pub struct EchoRows {
    queries: Vec<f32>,
    keys: Vec<f32>,
    moved: Vec<f32>,
}

/// First tokens of the text that every chunk sees.
const SINKS: usize = 4;

impl Echo {
    /// No rows yet.
    pub fn new(shape: KvShape, chunk: usize) -> Self {
        let [done, sinks, queries, keys, moved] = [(); 5].map(|()| Vec::new());
        Self { chunk, shape, done, sinks, queries, keys, moved }
    }

    /// Positions of a chunk.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        [&self.done, &self.sinks, &self.queries, &self.keys, &self.moved].map(Vec::len).iter().sum::<usize>()
            * size_of::<f32>()
    }

    /// Rotated queries, `[rows][query heads][head_dim]`, and keys, `[rows][KV heads][head_dim]`, as they are here and a chunk of `chunk` on.
    pub fn moved(queries: &[f32], keys: &[f32], rotation: &dyn Rotation, chunk: usize, shape: KvShape) -> EchoRows {
        let (width, narrow) = (shape.query_heads() * shape.head_dim, shape.kv_heads * shape.head_dim);
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        rotation.push_angles(chunk as u32, &mut cos, &mut sin);
        let turned = |rows: &[f32], width: usize| {
            let mut rows = rows.to_vec();
            rows.chunks_exact_mut(width).for_each(|row| rotation.rotate(row, &cos, &sin));
            rows
        };
        EchoRows { queries: turned(queries, width), moved: turned(keys, narrow), keys: keys.to_vec() }
    }

    /// The largest attention so far, `[positions][query heads]`.
    pub fn finish(&self) -> Vec<f32> {
        let (_, narrow) = self.widths();
        let mut all = self.done.clone();
        all.extend(self.largest(0, self.keys.len() / narrow));
        all
    }

    fn widths(&self) -> (usize, usize) {
        let KvShape { kv_heads, head_dim, .. } = self.shape;
        (self.shape.query_heads() * head_dim, kv_heads * head_dim)
    }

    /// `[rows][query heads]` of the `rows` held rows from `first`.
    fn largest(&self, first: usize, rows: usize) -> Vec<f32> {
        if rows == 0 {
            return Vec::new();
        }
        let KvShape { kv_heads, group, head_dim: dim, .. } = self.shape;
        let (width, narrow) = self.widths();
        // The first chunk has the first tokens in it.
        let sinks = if self.done.is_empty() && first == 0 { &[][..] } else { &self.sinks[..] };
        let before = sinks.len() / narrow;
        let slots = before + 2 * rows;
        let layout = BlockLayout { codec: Codec::F32, head_dim: dim, slots };
        let range = first * narrow..(first + rows) * narrow;
        let block = |head: usize| {
            let parts = [sinks, &self.keys[range.clone()], &self.moved[range.clone()]];
            let mut bytes = Vec::with_capacity(layout.bytes());
            for row in parts.into_iter().flat_map(|part| part.chunks_exact(narrow)) {
                bytes.extend_from_slice(cast_slice(&row[head * dim..][..dim]));
            }
            bytes.resize(layout.bytes(), 0);
            vec![bytes]
        };
        let blocks: Vec<Vec<Vec<u8>>> = (0..kv_heads).map(block).collect();
        let heads: Vec<_> = blocks.iter().map(|blocks| HeadView { layout, blocks: &blocks[..], len: slots }).collect();
        let q = &self.queries[first * width..(first + rows) * width];
        let (mut out, mut columns) = (vec![0.0; q.len()], vec![0.0; kv_heads * group * slots]);
        let query = Query { q, rows, heads: &heads, bias: None, scale: (dim as f32).sqrt().recip() };
        let wanted = Columns { reduce: ColumnReduce::Max, out: &mut columns, factors: None };
        // The shapes are those that this type has checked.
        let done = attend_batch(&mut [Job { query, out: &mut out, columns: Some(wanted) }]);
        debug_assert_eq!(done, Ok(()));
        (0..rows).flat_map(|row| columns.chunks_exact(slots).map(move |column| column[before + row])).collect()
    }
}

impl Gather for Echo {
    /// What [`Echo::moved`] makes of queries and keys.
    type Rows = EchoRows;

    fn take(&mut self, rows: &EchoRows) {
        let (width, narrow) = self.widths();
        let missing = (SINKS * narrow - self.sinks.len()).min(rows.keys.len());
        self.sinks.extend_from_slice(&rows.keys[..missing]);
        self.queries.extend_from_slice(&rows.queries);
        self.moved.extend_from_slice(&rows.moved);
        self.keys.extend_from_slice(&rows.keys);
        let mut whole = 0;
        while self.keys.len() / narrow >= (whole + 1) * self.chunk {
            let largest = self.largest(whole * self.chunk, self.chunk);
            self.done.extend(largest);
            whole += 1;
        }
        self.queries.drain(..whole * self.chunk * width);
        self.keys.drain(..whole * self.chunk * narrow);
        self.moved.drain(..whole * self.chunk * narrow);
    }

    /// The first keys stay where they were read. The model has them as much later in a head as it keeps fewer slots than the longest one, which
    /// changes how far back they are, but hardly how much attention they take.
    fn turn_back(&mut self, rotation: &dyn Rotation, by: u32) {
        for rows in [&mut self.queries, &mut self.keys, &mut self.moved] {
            rotation.renumber(rows, by, 0);
        }
    }
}
