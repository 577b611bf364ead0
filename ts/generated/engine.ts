// Generated from the Rust types by `cargo run --release -p headwise-engine --bin export_types`. Do not edit.

import type { PolicySpec } from './policy.js'

/**
 * How the numbers of a block are stored.
 */
export type Codec = "f32" | "bf16" | "f16" | "int8";

/**
 * What a compression did.
 */
export type CompressReport = { 
/**
 * The cache before. Where it was cut layer by layer while the prompt was read: what all of it would have taken, but physically the most that was
 * there at once.
 */
before: Memory, 
/**
 * The cache after.
 */
after: Memory, 
/**
 * Milliseconds for scoring, selection and compaction, and for the probe.
 */
ms: number, 
/**
 * Tokens that the policy's probe read for it, 0 where it has none.
 */
probeTokens: number, 
/**
 * Milliseconds of `ms` that the probe took.
 */
probeMs: number, };

/**
 * How a model is run.
 */
export type EngineOptions = { 
/**
 * Worker threads of the kernels. Default: physical cores, or as many of them as the process may use.
 */
threads?: number | undefined, 
/**
 * Storage format of the KV cache. Default `f16`.
 */
kvCodec?: Codec | undefined, 
/**
 * Most bytes that all KV caches of this model may hold together. Default: no limit.
 */
kvLimitBytes?: number | undefined, 
/**
 * Most prompt tokens that go through the model at a time. Default 512; fewer while other sessions are busy.
 */
prefillChunk?: number | undefined, };

/**
 * Why a generation ended.
 */
export type FinishReason = "eos" | "stop" | "length";

/**
 * What `generate` is to do, besides its prompt.
 */
export type GenerateOptions = { 
/**
 * Most tokens to generate. Default 256.
 */
maxTokens?: number | undefined, 
/**
 * How tokens are drawn. Default: greedy.
 */
sampler?: SamplerOptions | undefined, 
/**
 * Generation ends before the first of these texts, which is not part of the output.
 */
stop?: Array<string> | undefined, 
/**
 * Generation ends at any of these token ids.
 */
stopTokens?: Array<number> | undefined, 
/**
 * Do not end at the model's own end-of-text tokens. Default false.
 */
ignoreEos?: boolean | undefined, 
/**
 * Read special tokens (`<|im_start|>` …) in the prompt as such. Default false: they are plain text.
 */
parseSpecial?: boolean | undefined, };

/**
 * How `logLikelihood` reads its text.
 */
export type LikelihoodOptions = { 
/**
 * Read special tokens (`<|im_start|>` …) as such. Default false: they are plain text.
 */
parseSpecial?: boolean | undefined, };

/**
 * How likely a text was.
 */
export type LikelihoodReport = { 
/**
 * The tokens of the text, behind the BOS token where the model wants one and the session was empty.
 */
tokens: Array<number>, 
/**
 * Natural logarithm of the probability of each, given all tokens before it; null for the first token of an empty session.
 */
logProbs: Array<number | null>, 
/**
 * Tokens that the session has seen in all: the position of the next one.
 */
seen: number, 
/**
 * Milliseconds in the model, without waiting for other sessions.
 */
ms: number, };

/**
 * Bytes of a session's cache.
 */
export type Memory = { 
/**
 * Slots over all layers and KV heads.
 */
slots: number, 
/**
 * Bytes of those slots.
 */
logicalBytes: number, 
/**
 * Bytes of the blocks that hold them.
 */
physicalBytes: number, 
/**
 * Of the physical bytes, those in blocks that a fork holds too.
 */
sharedBytes: number, };

/**
 * A model in figures.
 */
export type ModelInfo = { 
/**
 * Architecture by its name in the file.
 */
architecture: string, 
/**
 * Decoder layers.
 */
layers: number, 
/**
 * Query heads of a layer.
 */
queryHeads: number, 
/**
 * KV heads of a layer.
 */
kvHeads: number, 
/**
 * Numbers in one key or value.
 */
headDim: number, 
/**
 * Tokens of the vocabulary.
 */
vocabSize: number, 
/**
 * Most tokens that a session may see.
 */
contextLength: number, 
/**
 * Weights in the file.
 */
parameters: number, 
/**
 * Kernel threads.
 */
threads: number, 
/**
 * Bytes of one slot (K and V of one head).
 */
slotBytes: number, 
/**
 * The token that goes in front of a text in an empty session (not of token ids); null where the model wants none.
 */
bosToken: number | null, 
/**
 * A chat template came with the model.
 */
hasChatTemplate: boolean, };

/**
 * What `prefill` is to do with the cache afterwards.
 */
export type PrefillOptions = { 
/**
 * Compress with the session's policy once the tokens are in. Default: as the policy's schedule says.
 */
compress?: boolean | undefined, 
/**
 * Read special tokens (`<|im_start|>` …) as such. Default false: they are plain text.
 */
parseSpecial?: boolean | undefined, };

/**
 * What a prefill did.
 */
export type PrefillReport = { 
/**
 * Tokens of this call.
 */
tokens: number, 
/**
 * Tokens that the session has seen in all: the position of the next one.
 */
seen: number, 
/**
 * Milliseconds in the model, without waiting for other sessions.
 */
ms: number, 
/**
 * The compression that followed, if any.
 */
compression: CompressReport | null, 
/**
 * The cache now.
 */
memory: Memory, };

/**
 * How the next token is drawn. Order: repetition penalty, temperature, top-k, top-p, min-p, draw.
 */
export type SamplerOptions = { 
/**
 * 0 = greedy (the default): the most likely token, ties to the lower id.
 */
temperature?: number | undefined, 
/**
 * Only the k most likely tokens; 0 (the default) = all.
 */
topK?: number | undefined, 
/**
 * Only the smallest set of most likely tokens whose probabilities reach p. Default 1: all.
 */
topP?: number | undefined, 
/**
 * Only tokens at least p times as likely as the most likely one. Default 0: all.
 */
minP?: number | undefined, 
/**
 * Divides positive (multiplies negative) logits of tokens that occur in the session. Default 1: off.
 */
repetitionPenalty?: number | undefined, 
/**
 * Seed of the draw. Same seed, policy and prompt give the same tokens. Default 0.
 */
seed?: number | undefined, };

/**
 * How a session is set up.
 */
export type SessionOptions = { 
/**
 * What to evict, and when. Default: `{ kind: 'full' }`, nothing.
 */
policy?: PolicySpec | undefined, 
/**
 * How many of the last queries each layer remembers, so that a later `compress` can use a policy with an observation
 * window of up to this many tokens. The session's own policy raises it to what it needs. Default 64.
 */
observe?: number | undefined, 
/**
 * Policies that a later `compress`, of this session or of a fork, will be asked for: what they need is gathered from the start. Only for
 * those that need more than the last queries (sums of all attention, which cannot be had later). Default: none.
 */
observeFor?: Array<PolicySpec> | undefined, };

/**
 * A session in figures.
 */
export type SessionStats = { 
/**
 * Tokens that the session has seen: the position of the next one.
 */
seen: number, 
/**
 * Slots held, `[layer][KV head]`.
 */
lengths: Array<Array<number>>, 
/**
 * Bytes held.
 */
memory: Memory, 
/**
 * Bytes of the queries that the session remembers for policies with an observation window.
 */
observationBytes: number, 
/**
 * Tokens that went through prefill (since the fork, for a fork).
 */
prefillTokens: number, 
/**
 * Milliseconds of prefill.
 */
prefillMs: number, 
/**
 * Tokens that went through decode steps.
 */
decodeTokens: number, 
/**
 * Milliseconds of the decode steps that this session took part in (a step serves all running sessions).
 */
decodeMs: number, 
/**
 * Compressions so far.
 */
compressions: number, 
/**
 * Milliseconds of compression.
 */
compressMs: number, };

/**
 * One piece of a generation. The last one carries `finishReason`.
 */
export type Step = { 
/**
 * Text that became certain with this token; empty while a character or a possible stop text is incomplete.
 */
text: string, 
/**
 * The token.
 */
token: number, 
/**
 * Set on the last piece.
 */
finishReason: FinishReason | null, };
