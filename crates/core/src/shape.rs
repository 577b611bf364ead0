//! Shapes and storage formats of the KV cache.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// How the numbers of a block are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// 32-bit IEEE float.
    F32,
    /// bfloat16.
    Bf16,
    /// 16-bit IEEE float.
    #[default]
    F16,
    /// Signed bytes in -127 ..= 127 and, behind those of each key and of each value, the f32 that they are multiplied with.
    Int8,
}

impl Codec {
    /// Bytes of one row of `head_dim` numbers: the key, or the value, of one slot of one head. Saturates.
    #[inline]
    pub fn row_bytes(self, head_dim: usize) -> usize {
        match self {
            Codec::F32 => head_dim.saturating_mul(4),
            Codec::Bf16 | Codec::F16 => head_dim.saturating_mul(2),
            Codec::Int8 => head_dim.saturating_add(size_of::<f32>()),
        }
    }
}

/// Dimensions of a KV cache. Query head `h` reads KV head `h / group`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Decoder layers.
    pub layers: usize,
    /// KV heads of a layer.
    pub kv_heads: usize,
    /// Query heads that share one KV head (GQA).
    pub group: usize,
    /// Numbers in one key or value.
    pub head_dim: usize,
}

impl KvShape {
    /// Query heads of a layer.
    pub fn query_heads(&self) -> usize {
        self.kv_heads * self.group
    }

    /// Bytes of one slot (K and V) of one head.
    pub fn slot_bytes(&self, codec: Codec) -> usize {
        2 * codec.row_bytes(self.head_dim)
    }
}
