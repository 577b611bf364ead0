//! Presets: published policies and our own as short forms of the composed form. A scorer's name is a policy already
//! (`{ "kind": "knorm", … }`), so only what needs more than a scorer has a file here.

use headwise_core::Result;

use crate::Common;
use crate::registry::registry;

/// A short form of the composed form.
pub trait Expand {
    /// The composed form.
    fn expand(&self) -> Result<CustomPolicy>;

    /// Budget, protection, schedule and compatibility, to change.
    fn common_mut(&mut self) -> Option<&mut Common>;
}

registry! {
    ($)
    /// Policies that are more than a scorer.
    pub enum Preset via with_preset {
        full::FullPolicy = "full",
        streaming_llm::StreamingLLMPolicy = "streamingLLM",
        pyramid_kv::PyramidKVPolicy = "pyramidKV",
        ada_kv::AdaKVPolicy = "adaKV",
        by_question::DefaultPolicy = "default",
        lookahead::LookaheadPolicy = "lookahead",
        echo::EchoPolicy = "echo",
        certified::CertifiedPolicy = "certified",
        la_prox::LaProxPolicy = "laProx",
        layer_defensive::LayerDefensiveKVPolicy = "layerDefensiveKV",
        critical_kv::CriticalAdaKVPolicy = "criticalAdaKV",
        cake::CakePolicy = "cake",
        lava::LavaPolicy = "lava",
        dynamic_kv::DynamicKVPolicy = "dynamicKV",
        chunk_kv::ChunkKVPolicy = "chunkKV",
        kv_crush::KVCrushPolicy = "kvCrush",
        kv_compress::KVCompressPolicy = "kvCompress",
        kvzip::KvzipPolicy = "kvzip",
        citrus::CitrusPolicy = "citrus",
        fast_gen::FastGenPolicy = "fastGen",
        sage_kv::SageKVPolicy = "sageKV",
        refree_kv::RefreeKVPolicy = "refreeKV",
        custom::CustomPolicy = "custom",
    }
}

impl Expand for Preset {
    fn expand(&self) -> Result<CustomPolicy> {
        with_preset!(self, preset => preset.expand())
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        with_preset!(self, preset => preset.common_mut())
    }
}
