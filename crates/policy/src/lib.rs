//! Policies: which slots of a KV cache stay. Plain data in, one [`headwise_core::Selection`] a layer out.
//!
//! A [`PolicySpec`] is what people write (JSON, TypeScript, CLI): a preset, or a scorer's name with its options.
//! [`PolicySpec::resolve`] turns it into a [`Policy`]: scorer + allocator + selector + protection + budget + schedule.
//! [`Policy::compress`] applies it:
//!
//! 1. protected slots (the scorer's window, sinks, user spans) are subtracted from the budget;
//! 2. the scorer gives every other slot a number (`scorers/`, one file each);
//! 3. a filter, where there is one, says which slots are worth a place at all (`filters/`);
//! 4. the allocator splits what is left of the budget over the layers (`allocators/`);
//! 5. the selector picks the slots of each layer (`selectors/`; Ada-KV is one);
//! 6. a second stage, where there is one, chooses part of them anew.
//!
//! Budgets are met exactly, ties go to the lower position, NaN is an error. [`Compat`] reproduces a published implementation,
//! with its rounding, instead. Defaults live here and nowhere else.

mod about;
mod allocators;
mod attention;
mod budget;
pub mod channels;
mod checks;
pub mod compat;
mod export;
mod filters;
pub mod gather;
mod input;
mod options;
mod output_norms;
mod policy;
mod presets;
mod registry;
mod rows;
mod scorers;
mod second_stage;
mod selectors;
mod spec;
mod streamed;
mod table;

pub use about::{About, Asks, Describe, Described, Reads};
pub use allocators::{Allocate, Allocator, CakeLayers, DynamicKVLayers, Entropy, Pyramid, Share, Uniform, Weights};
pub use budget::{Budget, apportion};
pub use compat::Compat;
pub use export::{Declarations, HEADER, presets_ts, types_ts};
pub use filters::{Admit, Certificate, FastGen, Filter, GVote, NormRule, Nucleus, SimLayer, Threshold};
pub use gather::{Gathered, Needs};
pub use input::{LayerInput, ModelView, Renumbered};
pub use options::{Common, Protect, Schedule, Span};
pub use output_norms::{Norm, OutputLengths, Weight, WeightBy};
pub use policy::Policy;
pub use presets::{
    AdaKVPolicy, CustomPolicy, Expand, FullPolicy, LookaheadPolicy, Preset, PyramidKVPolicy, StreamingLLMPolicy,
};
pub use scorers::{
    AhaKV, Cake, CapKV, Compactor, Defensive, EchoScores, Either, ExpectedAttention, Finch, GroupReduce, Instruction,
    KeyDiff, Knorm, Lava, LeverageScore, Local, MixKV, Nacl, NonCausal, PoolOrder, Pooling, Recency, Reconstruction,
    RestKV, RowReduce, Score, Scorer, SnapKV, Tova, Weighted,
};
pub use second_stage::SecondStage;
pub use selectors::{
    AcrossHeads, AcrossLayers, Anchor, Candidates, Chunks, Composite, Crush, HeadWeights, PerChunk, PerHead, Select,
    Selector, Shared, Stream,
};
pub use spec::{PolicySpec, ScorerPolicy};
pub use streamed::Streamed;
pub use table::policies_md;
