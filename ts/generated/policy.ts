// Generated from the Rust types by `cargo run --release -p headwise-engine --bin export_types`. Do not edit.

/**
 * Ada-KV (arXiv 2407.11550, NeurIPS 2025): the heads of a layer compete for its slots.
 *
 * c_h counts how many of the layer's best B scores lie in head h; the head gets c_h · (1 − α) + α · B/H slots (the
 * interpolation of the paper's code; its Algorithm 2 prints α the other way round). Rounded by largest remainder, so the sum
 * is exactly B. α = `floor` guards a head against being starved.
 */
export type AcrossHeads = { 
/**
 * Share α in [0, 1] that every head gets regardless of its scores. Default 0.2, as in the paper's experiments.
 */
floor?: number | undefined, 
/**
 * Weigh a head's scores by the mass that its own best B/H slots hold before the heads compete (an option of the paper's
 * code; for scores that are not negative). Default false.
 */
normalize?: boolean | undefined, };

/**
 * All layers and heads compete for the budget (LaProx, arXiv 2605.07234; Layer-DefensiveKV, arXiv 2510.13334; KVzip, arXiv 2505.23416): the best scores
 * of the whole cache stay.
 *
 * Every head's best ⌊floor · B⌋ / heads stay first (rounded so that a larger budget never takes a slot away), and what is left goes to the best of
 * the rest. The lower position wins a tie, then the lower layer and head. Since a slot's place never depends on what follows, the choice can be made layer by layer while the
 * cache holds no more than the budget and one layer: [`Stream`].
 */
export type AcrossLayers = { 
/**
 * Share of the budget in [0, 1] that the heads get equally, regardless of how they compare. Default 0.
 */
floor?: number | undefined, 
/**
 * Divide the scores of a layer by their sum first, so that layers compare (for scores that are not negative). Default true.
 */
normalize?: boolean | undefined, };

/**
 * Ada-KV (arXiv 2407.11550) over any other policy: the heads of a layer compete for its slots.
 *
 * Budget, schedule and compat may stand here or on the base, not on both; protections add up.
 */
export type AdaKVPolicy = { 
/**
 * Whose scores (and layer budgets) to use. Default `{ kind: "snapKV" }`.
 */
base?: PolicySpec | undefined, 
/**
 * Share α in [0, 1] that every head gets regardless of its scores. Default 0.2, as in the paper's experiments.
 */
floor?: number | undefined, 
/**
 * Weigh a head's scores by the mass that its own best B/H slots hold before the heads compete (an option of the paper's
 * code; for scores that are not negative). Default false.
 */
normalize?: boolean | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * AhaKV (arXiv 2506.03762): attention of the last queries, sharpened as much as length blunts it, times a prior from the values.
 *
 * s_j = γ_j · Σ softmax(λ q · k)_j over the window's rows, mean over the query heads of a KV head. λ = √(2 ln(i / b) / d), with i the tokens that the row
 * sees and b the slots that a head keeps, in place of 1/√d: so the mean entropy of normally distributed logits stays near ln b whatever the length.
 * Where i ≤ b nothing would be evicted, and 1/√d stays. γ = AvgPool(‖v‖²) over its maximum, over all slots of the head. The pool's width is in no
 * public source; 7 here. The paper goes on at decode; this is its state after the prefill.
 */
export type AhaKV = { 
/**
 * Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * Odd width of the average of the values' prior. Default 7.
 */
kernel?: number | undefined, };

/**
 * How the budget is split over the layers.
 */
export type Allocator = { "kind": "uniform" } & Uniform | { "kind": "pyramid" } & Pyramid | { "kind": "weights" } & Weights | { "kind": "cake" } & CakeLayers | { "kind": "entropy" } & Entropy | { "kind": "dynamicKV" } & DynamicKVLayers;

/**
 * A signature to measure distances from.
 */
export type Anchor = "mean" | "alternating" | "zeros" | "ones";

/**
 * How much of the cache may stay. Exactly one of the four.
 *
 * `{ tokensPerHead: n }` keeps n slots a head on average. `{ keep: f }` keeps the fraction f of the tokens seen,
 * n = max(1, floor(T · f)), 0 < f ≤ 1. `{ ratio: r }` is kvpress's `compression_ratio`, n = max(1, trunc(T · (1 − r))),
 * 0 ≤ r < 1. `{ bytes: b }` bounds the logical bytes of the whole session. T counts the tokens seen, not the slots left.
 * Layers and heads share the total as allocator and selector say; protected slots count.
 */
export type Budget = { "tokensPerHead": number } | { "keep": number } | { "ratio": number } | { "bytes": number };

/**
 * CAKE's scores (arXiv 2503.12491, ICLR 2025): mean attention of the window's rows plus γ times its variance over them (divisor rows − 1), averaged over
 * `kernel` neighbours, mean over the query heads of a KV head. A slot that is wanted now and then counts as one that is wanted always.
 */
export type Cake = { 
/**
 * Last tokens whose queries vote and which stay, 2 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * γ, weight of the variance, not negative. Default 200.
 */
gamma?: number | undefined, 
/**
 * Odd width of the average. Default 5.
 */
kernel?: number | undefined, };

/**
 * CAKE (arXiv 2503.12491, ICLR 2025): layers share the budget by how widely and how changeably their window looks, H^(1/τ₁) · V^(1/τ₂).
 *
 * H = −Σ a ln a (the published code adds 1e−10 for the sake of 0) and V = Σ of the variance over the window's rows (divisor rows − 1), both over all query heads and the slots before the
 * window, whose attention is that of the whole row and so does not sum to 1. The published code cuts earlier layers again after each layer, which leads
 * to the same shares; here all are known at once. The paper's τ for Llama 3.1 are 1.6 and 0.4 at 1024 slots, 1.6 and 0.6 at 128.
 */
export type CakeLayers = { 
/**
 * Last tokens whose queries count, 2 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * τ₁, positive. Default 1.
 */
spread?: number | undefined, 
/**
 * τ₂, positive. Default 1.
 */
shift?: number | undefined, };

/**
 * CAKE (arXiv 2503.12491, ICLR 2025): scores of mean and variance, layers share by how widely and how changeably they look.
 */
export type CakePolicy = { 
/**
 * τ₁. Default 1.
 */
spread?: number | undefined, 
/**
 * τ₂. Default 1.
 */
shift?: number | undefined, 
/**
 * Last tokens whose queries vote and which stay, 2 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * γ, weight of the variance, not negative. Default 200.
 */
gamma?: number | undefined, 
/**
 * Odd width of the average. Default 5.
 */
kernel?: number | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * CAOTE: another scorer's scores as weights of the values, and of each slot how much their weighted mean moves when it is taken away.
 *
 * α = s / Σ s over the head's slots before the base's window; α / (1 − α) · ‖o − v‖₂ with o = Σ α v, which is ‖o − o'‖₂ with o' the mean of the
 * others by their α, renormalised. Computed as α · ‖o' − v‖₂, so that a slot with all the weight gets its own length and not 0 / 0.
 *
 * For scores that are not negative; one that is, is an error, and so is a base that gives slots a number only for them to stay. Each row of attention by itself: `snapKV` with `weight: { by: "change" }`.
 */
export type Caote = { 
/**
 * Whose scores. Default `{ kind: "snapKV" }`.
 */
base?: Scorer | undefined, };

/**
 * CapKV (arXiv 2604.25975, as in kvpress): how much of what the values can say is lost with a slot, by its leverage among values that are weighed by the
 * attention which queries to come are expected to give.
 *
 * Per query head: c_j = exp(τ (cos(k_j, μ) − the largest)), with μ the mean query turned to the next positions (as in `expectedAttention`);
 * M = I + Σ (c_j + ε) v_j v_jᵀ; s_j = c_j · v_jᵀ M⁻¹ v_j, mean over the query heads of a KV head. The first slots take no part and get the layer's largest
 * score + 1. The paper takes the product ⟨k, μ⟩ itself, which ranks otherwise. Computed in f64.
 */
export type CapKV = { 
/**
 * First slots that get the largest score, at most 16. Default 4.
 */
first?: number | undefined, 
/**
 * τ, not negative. Default 5.
 */
temperature?: number | undefined, 
/**
 * ε, not negative. Default 1e-6.
 */
epsilon?: number | undefined, 
/**
 * Positions to come that are averaged over, 1 to 65536. Default 512.
 */
future?: number | undefined, };

/**
 * The least that keeps the layer's attention output right: of each layer the worst slots go, over all heads, as long as no query of the window
 * can see its output change by more than the share `error`. Ours.
 *
 * When a query head loses slots E that hold the share m of its attention and the softmax is renormalised, its part of the output o W changes by
 * ‖Δ‖ ≤ (S + m ‖o W‖) / (1 − m), with S = Σ_E a_j ‖v_j W‖: Δ = Σ_E a_j v_j W − m o' W, and o' W is what is left, divided by 1 − m. The sum of
 * these bounds over the query heads is a bound for the layer, and slots go in the order of their scores until it reaches `error` · ‖Σ_h o_h W_h‖ for
 * the first row. It is a certificate for what the window asked, not for what comes later; and a bound: what is measured is less.
 */
export type Certificate = { 
/**
 * Share of the output's length that may change, more than 0. Default 0.5.
 */
error?: number | undefined, 
/**
 * Last queries that must be served, 1 to 64: their attention to all slots of a layer is held at once. Default 16.
 */
window?: number | undefined, };

/**
 * An automatic budget: the least that keeps each layer's attention output within `error` for every one of the last queries ([`Certificate`]).
 *
 * Slots go in the order of the norm of their attention over the window times ‖v W_O‖₂. The policy's own budget is a hard cap, under which layers and
 * heads compete.
 */
export type CertifiedPolicy = { 
/**
 * Share of the output's length that may change, more than 0. Default 0.5.
 */
error?: number | undefined, 
/**
 * Last queries that must be served, 1 to 64; their tokens stay. Default 16.
 */
window?: number | undefined, 
/**
 * First tokens that stay in any case. Default 4.
 */
sinks?: number | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * ChunkKV (arXiv 2502.00299): SnapKV scores, whole chunks of neighbouring tokens stay, the same in every head of a layer.
 */
export type ChunkKVPolicy = { 
/**
 * Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * Last tokens that stay in any case. Fewer than the window: its other tokens compete by what the queries behind them give. Default: the window.
 */
recent?: number | undefined, 
/**
 * How the window's rows are reduced. Default `"mean"`.
 */
rows?: RowReduce | undefined, 
/**
 * What is left of a row's attention for each row behind it, in (0, 1]. Default 1: all count alike.
 */
fade?: number | undefined, 
/**
 * What attention is multiplied with, before the group is reduced. Default: nothing.
 */
weight?: Weight | undefined, 
/**
 * How the query heads of a KV head are reduced. Default `"mean"`.
 */
group?: GroupReduce | undefined, 
/**
 * Pooling along the positions. Default `{ kind: "max", kernel: 7 }`.
 */
pool?: Pooling | undefined, 
/**
 * Whether the group is reduced before pooling. Default `"groupFirst"`.
 */
order?: PoolOrder | undefined, 
/**
 * Positions of a chunk. Default 10, as in the paper (kvpress: 20).
 */
length?: number | undefined, 
/**
 * Layers that keep the same slots: the first of each such run decides (the paper's index reuse). Default 1, each for itself.
 */
reuse?: number | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * ChunkKV (arXiv 2502.00299): whole chunks of neighbouring positions stay, the same in every head of a layer.
 *
 * Chunks are counted from the first position. A chunk's score is the mean of its slots' scores, summed over the heads. The best chunks stay whole;
 * the next one fills what is left of the budget from its beginning, so that the budget is met exactly (kvpress keeps
 * `max(1, int(chunks · (1 − r)))` whole chunks, the partial last one counted as one; see `compat`).
 */
export type Chunks = { 
/**
 * Positions of a chunk. Default 10, as in the paper (kvpress: 20).
 */
length?: number | undefined, 
/**
 * Layers that keep the same slots: the first of each such run decides (the paper's index reuse). Default 1, each for itself.
 */
reuse?: number | undefined, };

/**
 * CItruS (arXiv 2406.12018), one cache: what an instruction's tokens attend to, the same tokens in all heads of a layer.
 *
 * The instruction is read when the cache is compressed ([`Instruction`]). The paper compresses after every chunk of 256 tokens; here it is done once.
 */
export type CitrusPolicy = { 
/**
 * What is read. Default `"\n\nWhat are the key facts of the text above?"`.
 */
text?: string | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * Compactor (arXiv 2507.08143): leverage of the keys and non-causal attention, blending · z(leverage) + z(attention).
 *
 * The first and the last slots take no part and get the layer's largest score + 1 (in kvpress the largest itself, which they share with one other
 * slot). Needs no question. The attention is gathered while tokens are read: the session must have this policy from the start.
 */
export type Compactor = { 
/**
 * First slots that get the largest score. Default 8.
 */
first?: number | undefined, 
/**
 * Last slots that get the largest score. Default 4.
 */
last?: number | undefined, 
/**
 * Weight of the leverage, not negative. Default 0.5 (kvpress takes the compression ratio, so that scores depend on the budget).
 */
blending?: number | undefined, 
/**
 * How leverage is computed.
 */
leverage?: LeverageScore | undefined, 
/**
 * How attention is computed.
 */
attention?: NonCausal | undefined, };

/**
 * Whose arithmetic to reproduce. What the source does not have is refused by name.
 */
export type Compat = "kvpress" | "adakv" | "kvcacheFactory" | "defensiveKv";

/**
 * KVCompose (arXiv 2509.05165): layers compete rank by rank, and every head keeps its own best slots, as many as the other heads of its layer.
 *
 * The best slots of a layer's heads make its first composite token, the second best its second, and so on; a composite token is worth the mean of their
 * scores. The best composite tokens of all layers stay, so each layer stays rectangular. Where the budget ends inside a composite token, the first heads keep their
 * part of it. A head that holds fewer slots than others has no part in the last ranks. Ties go to the lower rank, then layer, then head.
 *
 * The published code gives the first layer the largest of all layers' worth at each rank; the paper does not, nor do we.
 */
export type Composite = Record<symbol, never>;

/**
 * CriticalAdaKV (arXiv 2502.03805, ICML 2026): Ada-KV over SnapKV settles how many slots each head keeps; half of them are chosen by attention, the rest by
 * attention times what the value does to the output.
 */
export type CriticalAdaKVPolicy = { 
/**
 * Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * Last tokens that stay in any case. Fewer than the window: its other tokens compete by what the queries behind them give. Default: the window.
 */
recent?: number | undefined, 
/**
 * How the window's rows are reduced. Default `"mean"`.
 */
rows?: RowReduce | undefined, 
/**
 * What is left of a row's attention for each row behind it, in (0, 1]. Default 1: all count alike.
 */
fade?: number | undefined, 
/**
 * What attention is multiplied with, before the group is reduced. Default: nothing.
 */
weight?: Weight | undefined, 
/**
 * How the query heads of a KV head are reduced. Default `"mean"`.
 */
group?: GroupReduce | undefined, 
/**
 * Pooling along the positions. Default `{ kind: "max", kernel: 7 }`.
 */
pool?: Pooling | undefined, 
/**
 * Whether the group is reduced before pooling. Default `"groupFirst"`.
 */
order?: PoolOrder | undefined, 
/**
 * Share α in [0, 1] that every head gets regardless of its scores. Default 0.2, as in the paper's experiments.
 */
floor?: number | undefined, 
/**
 * Weigh a head's scores by the mass that its own best B/H slots hold before the heads compete (an option of the paper's
 * code; for scores that are not negative). Default false.
 */
normalize?: boolean | undefined, 
/**
 * Share of a head's slots that the scorer alone chooses, in [0, 1]. Default 0.5.
 */
first?: number | undefined, 
/**
 * ε, so that a slot without attention has a weight too, not negative. Default 1e-4.
 */
epsilon?: number | undefined, 
/**
 * How the length of v W_O is measured. Default `"l2"`; the paper's is `"l1"`.
 */
norm?: Norm | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * KVCrush (arXiv 2503.00022): next to a head's best slots, some that stand for the others.
 *
 * A position's signature is one bit a head of the layer: 1 where the slot is among the best that this head could keep. A head keeps its best
 * count − ⌊share · count⌋ slots. Its others are put in the order of the Hamming distance between their signature and an anchor, and from this row of n
 * the places ⌊i · (n − 1) / (r − 1)⌋ stay, i = 0 … r − 1: evenly spaced, so positions that the heads judge alike are represented together.
 *
 * Decided: bits are those of the whole count, not of the best part of it. Equal distances, unordered in both published codes, go by position, which
 * spreads representatives of one signature over the text. Both ends of the row are taken, as in the code for vLLM; OpenVINO's steps of ⌊n / r⌋ may leave
 * out almost half of it. There is no random anchor.
 */
export type Crush = { 
/**
 * Share of a head's slots that represent others, in [0, 1]. Default 0.25.
 */
share?: number | undefined, 
/**
 * What signatures are compared with. Default `"mean"`.
 */
anchor?: Anchor | undefined, };

/**
 * CUR decomposition's leverage (CurDKV, arXiv 2509.15038, as in kvpress): squared norms ‖k‖² and ‖v‖² stand for the leverage scores of the
 * key and value matrices, each divided by its sum over a block of neighbours, so that a slot competes with those around it.
 *
 * Divided by their sum over the head. The first slots get 1, more than any other can have. Needs no queries.
 */
export type Cur = { 
/**
 * First slots that get the largest score. Default 4.
 */
first?: number | undefined, 
/**
 * What a slot's leverage is made of. Default `"product"`.
 */
leverage?: Leverage | undefined, 
/**
 * Slots of a block in which norms are made comparable; 0: no blocks. Default 16.
 */
block?: number | undefined, };

/**
 * The composed form: any scorer with any allocator and selector.
 */
export type CustomPolicy = { 
/**
 * How much a slot is worth.
 */
scorer: Scorer, 
/**
 * How the budget is split over the layers. Default `{ kind: "uniform" }`.
 */
allocator?: Allocator | undefined, 
/**
 * Which slots stay. Default `{ kind: "perHead" }`.
 */
selector?: Selector | undefined, 
/**
 * Which slots may compete at all, however large the budget. Default: all.
 */
filter?: Filter | undefined, 
/**
 * A second look at what stays (CriticalKV). Default: none.
 */
secondStage?: SecondStage | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * What we would take: `lookahead` where the prompt holds the question, `echo` where questions come later or the text just goes on.
 *
 * Chosen by measurement (docs/lookahead.md, docs/echo.md); it changes when something better is found.
 */
export type DefaultPolicy = { 
/**
 * Whether the question is in the prompt when the cache is cut. Default `"known"`.
 */
question?: Question | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * DefensiveKV (arXiv 2510.13334): against the worst case instead of the mean. A slot is worth the most that any query of the window gave it.
 *
 * Attention of each query head and window row is averaged over `kernel` neighbours and scaled back to the mass that it had; s_j is the maximum over
 * rows and query heads, but at least the head's mean; times u_j, the mean over the query heads of ‖v_j W_O‖ as a share of its sum over the layer's
 * KV heads. The slots that together hold `mass` of a head's mean attention, the window's own share included, but no more than a head's even share of
 * the budget, come before all others (+ 1: s · u is at most 1).
 *
 * The published code takes the window's share from the wrong columns, leaves out the slot that crosses the bound, and gives protected slots and the
 * window the layer's maximum, by which a layer can lose its window to others: see `compat`. Its normalisation over heads (the paper's text says
 * tokens) is kept, for the published results come from it. It measures ‖v_j W_O‖ by L1; by L2 it costs a tenth, and nearly all that stays is the same
 * (docs/performance.md).
 */
export type Defensive = { 
/**
 * Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * Odd width of the average. Default 5.
 */
kernel?: number | undefined, 
/**
 * Share of the mean attention that is put first, in [0, 1]. Default 0.9.
 */
mass?: number | undefined, 
/**
 * How the length of v W_O is measured. Default `"l2"`; the paper's is `"l1"`.
 */
norm?: Norm | undefined, };

/**
 * DynamicKV (arXiv 2412.14838): layers share the budget by how many of the best scores of all layers are theirs; inside a layer heads are equal.
 *
 * Every layer has at least `least` of an even share, as far as it has slots; the rest is in proportion to what its count is above that (largest
 * remainder). The published code cuts in integers and gives what rounding leaves to the last layer, and r_min only prints a warning there.
 */
export type DynamicKVLayers = { 
/**
 * Least share of an even share that a layer gets, in [0, 1]. Default 0.1.
 */
least?: number | undefined, };

/**
 * DynamicKV (arXiv 2412.14838): SnapKV scores, layers share by how many of the best scores of all are theirs.
 */
export type DynamicKVPolicy = { 
/**
 * Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * Last tokens that stay in any case. Fewer than the window: its other tokens compete by what the queries behind them give. Default: the window.
 */
recent?: number | undefined, 
/**
 * How the window's rows are reduced. Default `"mean"`.
 */
rows?: RowReduce | undefined, 
/**
 * What is left of a row's attention for each row behind it, in (0, 1]. Default 1: all count alike.
 */
fade?: number | undefined, 
/**
 * What attention is multiplied with, before the group is reduced. Default: nothing.
 */
weight?: Weight | undefined, 
/**
 * How the query heads of a KV head are reduced. Default `"mean"`.
 */
group?: GroupReduce | undefined, 
/**
 * Pooling along the positions. Default `{ kind: "max", kernel: 7 }`.
 */
pool?: Pooling | undefined, 
/**
 * Whether the group is reduced before pooling. Default `"groupFirst"`.
 */
order?: PoolOrder | undefined, 
/**
 * Least share of an even share that a layer gets, in [0, 1]. Default 0.1.
 */
least?: number | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * Our own default for questions that come later: what the text's own queries would look at if it were read once more, weighed by the length of its
 * value, the best of the whole cache.
 *
 * s_j = e_j · ‖v_j‖₂; e_j estimates KVzip's scores without its second reading ([`EchoScores`]). With a `window` s_j = max(e_j, w_j) · ‖v_j‖₂: w_j is the
 * most that one of the last queries gives in any query head of the KV head, times fade^n for n queries behind it. That is what the text itself would go
 * on with; both are probabilities and need no scale between them. Why, and how close it comes: docs/echo.md.
 */
export type EchoPolicy = { 
/**
 * Positions of a chunk, 4 to 4096. Default 512.
 */
chunk?: number | undefined, 
/**
 * Last tokens whose queries vote too, at most 4096: for text that goes on. Default 0.
 */
window?: number | undefined, 
/**
 * What is left of such a vote for each later one, in (0, 1]. Default 0.9.
 */
fade?: number | undefined, 
/**
 * With a window, last tokens that stay in any case. Default 8.
 */
recent?: number | undefined, 
/**
 * First tokens that stay in any case. Default 4.
 */
sinks?: number | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * What the text's own queries would look at if it were read once more: our estimate of KVzip's reconstruction without a second reading.
 *
 * `s_j` = the largest softmax weight that j gets from a query of its chunk and a query head of the KV head, when the chunk's queries and keys stand
 * behind the chunk a second time ([`crate::gather::Echo`]). It is gathered while tokens are read: the session must have this policy from the
 * start. Needs no question.
 */
export type EchoScores = { 
/**
 * Positions of a chunk, 4 to 4096. Default 512.
 */
chunk?: number | undefined, };

/**
 * The largest of what several scorers give a slot: one that needs it is enough.
 *
 * For scores that mean the same, such as probabilities. The last tokens that one of them cannot judge stay.
 */
export type Either = { 
/**
 * Whose scores. Default `[{ kind: "echoScores" }, { kind: "snapKV" }]`.
 */
of?: Array<Scorer> | undefined, };

/**
 * LAVa (arXiv 2509.09754): layers share the budget by the entropy of their scores, −Σ p ln p / ln N with p the scores of all heads divided by their
 * sum: a layer whose scores are spread evenly needs more slots. For scores that are not negative.
 */
export type Entropy = Record<symbol, never>;

/**
 * Expected Attention (arXiv 2510.00636, kvpress): the attention that queries still to come are expected to give, from the mean μ and the covariance Σ
 * of the prompt's queries before their rotation.
 *
 * With R̄ the mean rotation of the next `future` positions, μ' = R̄ μ and Σ' = R̄ Σ R̄ᵀ (R̄ is no rotation, its norm is below 1, and is used as it is):
 * z_j = μ'ᵀ k_j / √d + k_jᵀ Σ' k_j / (2 d), softmax over the slots behind the first ones, mean over the query heads of a KV head, (s + ε) · ‖v_j‖₂.
 * The first slots take no part in the statistics and get the layer's largest score + 1. Needs no question: for contexts that are stored.
 */
export type ExpectedAttention = { 
/**
 * First slots that get the largest score, at most 16. Default 4.
 */
first?: number | undefined, 
/**
 * Positions to come that are averaged over, 1 to 65536. Default 512.
 */
future?: number | undefined, 
/**
 * Use the covariance, not the mean alone. Default true.
 */
covariance?: boolean | undefined, 
/**
 * Multiply by ‖v‖₂. Default true.
 */
valueNorm?: boolean | undefined, 
/**
 * ε, added before the value's norm comes in, not negative. Default 0 (kvpress's leaderboard uses 0.01 to 0.02 where heads compete).
 */
epsilon?: number | undefined, };

/**
 * FastGen (arXiv 2310.01801): each head keeps the least of {special tokens} ⊂ {+ punctuation} ⊂ {+ frequent} ⊂ {+ local} ⊂ {everything} that holds the
 * share `recovery` of its attention.
 *
 * The share is the mean over the last `window` queries, of the mean over the query heads of a KV head (the paper has no groups). Frequent: the
 * ⌊`frequent` · slots⌋ slots with the largest sum of that attention. Local: less than ⌊`local` · seen⌋ positions before the query, and before the
 * end of the text for what stays. The paper looks at all rows of the prompt and applies its choice at every step of decoding; here the last rows
 * decide, once.
 */
export type FastGen = { 
/**
 * Share of the attention in [0, 1]. Default 0.95.
 */
recovery?: number | undefined, 
/**
 * Share of the text that is local, in [0, 1]. Default 0.3.
 */
local?: number | undefined, 
/**
 * Share of the slots that are frequent, in [0, 1]. Default 0.3.
 */
frequent?: number | undefined, 
/**
 * Last queries that are asked, 1 to 4096. Default 32.
 */
window?: number | undefined, };

/**
 * FastGen (arXiv 2310.01801): each head keeps special tokens, punctuation, frequent or local ones, as many of these as its attention needs ([`FastGen`]).
 *
 * The budget is a hard cap: where the heads ask for more, the best by the attention of the last queries stay.
 */
export type FastGenPolicy = { 
/**
 * Share of the attention in [0, 1]. Default 0.95.
 */
recovery?: number | undefined, 
/**
 * Share of the text that is local, in [0, 1]. Default 0.3.
 */
local?: number | undefined, 
/**
 * Share of the slots that are frequent, in [0, 1]. Default 0.3.
 */
frequent?: number | undefined, 
/**
 * Last queries that are asked, 1 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * Which slots may compete at all.
 */
export type Filter = { "kind": "nucleus" } & Nucleus | { "kind": "threshold" } & Threshold | { "kind": "normRule" } & NormRule | { "kind": "gVote" } & GVote | { "kind": "simLayer" } & SimLayer | { "kind": "fastGen" } & FastGen | { "kind": "certificate" } & Certificate;

/**
 * FINCH (TACL 2024, as in kvpress): attention of the question's tokens, each row multiplied by the tokens that it sees, so that rows weigh alike.
 *
 * Mean over the rows and the query heads of a KV head; no pooling. The window is the question: give its length. kvpress multiplies by the row's
 * position, one less than it sees; here by what it sees. The paper's own factor is 1 for every row wherever the question follows the text.
 */
export type Finch = { 
/**
 * Last tokens whose queries vote and which stay: those of the question, 1 to 4096. Default 32.
 */
window?: number | undefined, };

/**
 * Nothing is evicted. Takes no options.
 */
export type FullPolicy = Record<symbol, never>;

/**
 * GVote (arXiv 2509.03136): the slots that queries to come would look at most, by a vote of drawn queries.
 *
 * K is the fewest slots that hold the share `mass` of the last query's attention; each of `samples` queries, drawn from a normal distribution with the
 * mean and covariance of the prompt's queries before their rotation and turned to the positions that come next, admits its K best slots; a KV head
 * admits what any of its query heads does. The paper draws hidden states and maps them through W_Q: of a normal distribution that is the same
 * (models that normalise queries apart). The first 4 positions take no part in the statistics. There is no public code.
 */
export type GVote = { 
/**
 * Share of the last query's attention, in (0, 1]. Default 0.95.
 */
mass?: number | undefined, 
/**
 * Queries that are drawn, 1 to 1024. Default 8.
 */
samples?: number | undefined, 
/**
 * Other seeds, other draws. Default 0.
 */
seed?: number | undefined, };

/**
 * Reduction over the query heads that share a KV head.
 */
export type GroupReduce = "mean" | "max" | "sum";

/**
 * H2O (arXiv 2306.14048), heavy hitters: all the attention that a slot has ever got, and the most recent tokens.
 *
 * `s_j = Σ_i a_ij` over all queries, those of the window too, so that early tokens are favoured. The sums are gathered while tokens are read:
 * the session must have this policy (or `observedAttention`) from the start. Eviction is that of KVCache-Factory, once after the prefill,
 * not the paper's at every step.
 */
export type H2O = { 
/**
 * Last tokens, which stay, up to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * How the query heads of a KV head are reduced. Default `"mean"`.
 */
group?: GroupReduce | undefined, };

/**
 * The heads of all layers share the budget by given weights: those of a calibration or of a search, as in HeadKV (arXiv 2410.19258). Each keeps its own
 * best slots.
 *
 * What a head cannot fill goes to the others in proportion, so that the sum is exact. Weights are about slots that compete; protected ones come on top.
 * Unlike the list of allocator `weights`, which stands for whole layers, this one has to fit the model: a head that nobody weighed is an error.
 */
export type HeadWeights = { 
/**
 * `[layer][KV head]`, finite and not negative; only their proportions matter.
 */
weights: Array<Array<number>>, };

/**
 * CItruS (arXiv 2406.12018): attention of an instruction's tokens, which are read behind the text and leave no trace.
 *
 * Mean over the tokens and over the query heads of a KV head. The instruction stands for what will be asked; the text itself need not hold it.
 */
export type Instruction = { 
/**
 * What is read. Default `"\n\nWhat are the key facts of the text above?"`.
 */
text?: string | undefined, };

/**
 * KV-Compress (arXiv 2410.00161): squared attention of the last queries, summed over them and the query heads of a KV head; layers and heads compete. One
 * sharp look counts more than many faint ones. (The published system evicts whole blocks of slots; here slot by slot.)
 */
export type KVCompressPolicy = { 
/**
 * Last tokens whose queries vote and which stay. Default 32.
 */
window?: number | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * KVCrush (arXiv 2503.00022): SnapKV scores, part of what a head keeps stands for the rest.
 */
export type KVCrushPolicy = { 
/**
 * Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * Last tokens that stay in any case. Fewer than the window: its other tokens compete by what the queries behind them give. Default: the window.
 */
recent?: number | undefined, 
/**
 * How the window's rows are reduced. Default `"mean"`.
 */
rows?: RowReduce | undefined, 
/**
 * What is left of a row's attention for each row behind it, in (0, 1]. Default 1: all count alike.
 */
fade?: number | undefined, 
/**
 * What attention is multiplied with, before the group is reduced. Default: nothing.
 */
weight?: Weight | undefined, 
/**
 * How the query heads of a KV head are reduced. Default `"mean"`.
 */
group?: GroupReduce | undefined, 
/**
 * Pooling along the positions. Default `{ kind: "max", kernel: 7 }`.
 */
pool?: Pooling | undefined, 
/**
 * Whether the group is reduced before pooling. Default `"groupFirst"`.
 */
order?: PoolOrder | undefined, 
/**
 * Share of a head's slots that represent others, in [0, 1]. Default 0.25.
 */
share?: number | undefined, 
/**
 * What signatures are compared with. Default `"mean"`.
 */
anchor?: Anchor | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * KeyDiff (arXiv 2504.15364): score −cos(k, anchor), where the anchor is the mean of the head's normalised keys: keys that are
 * unlike the others stay. Needs no queries.
 */
export type KeyDiff = Record<symbol, never>;

/**
 * Key norm (arXiv 2406.11430): score −‖k‖₂, since keys of low norm attract attention. Needs no queries.
 *
 * The paper leaves out the first two layers: `protect: { layers: 2 }`.
 */
export type Knorm = Record<symbol, never>;

/**
 * KVzip (arXiv 2505.23416), for questions that are not known yet: what the model needs to repeat the text, the best of the whole cache.
 *
 * Costs one more reading of the text when the cache is compressed ([`Reconstruction`]).
 */
export type KvzipPolicy = { 
/**
 * Tokens that are repeated at a time. Default 2048.
 */
chunk?: number | undefined, 
/**
 * KVzip+: weigh attention by what the value adds to the hidden state. Default false.
 */
normalized?: boolean | undefined, 
/**
 * First tokens that stay in any case. Default 4.
 */
sinks?: number | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * LaProx (arXiv 2605.07234): the norm of a slot's attention over the window times the norm of what its value becomes, ‖A_j‖₂ · ‖v_j W_O‖₂, mean over
 * the query heads of a KV head, averaged over neighbours, divided by the layer's sum; the best of the whole cache stay.
 */
export type LaProxPolicy = { 
/**
 * Last tokens whose queries vote and which stay. Default 32.
 */
window?: number | undefined, 
/**
 * Odd width of the average. Default 7.
 */
kernel?: number | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * LagKV (arXiv 2504.04704): slots stay whose keys and values spread most when they are measured by those that follow.
 *
 * Behind the first slots come partitions of `lag` slots. Channel by channel a partition is scaled by the least and the largest number of the
 * next one, z = (x − min) / (max − min); a slot's spread is the standard deviation of its z over the channels (divisor D − 1), softmax over the
 * partition; keys and values are averaged. Then slots are ranked within their partition, (0 … lag − 1) / lag, so that each keeps as many: ranks
 * of different partitions tie, and the lower position wins. First slots, the last whole partition and what follows it get 1. A text shorter
 * than two partitions keeps its most recent slots. Needs no queries.
 *
 * A channel in which the next partition does not vary divides by zero in the source; here it counts as 0.
 */
export type LagKV = { 
/**
 * First slots that get the largest score. Default 4.
 */
first?: number | undefined, 
/**
 * Slots of a partition. Default 128.
 */
lag?: number | undefined, 
/**
 * Let slots of different partitions compete by their softmax instead of ranking them within their own. Default false.
 */
crossPartition?: boolean | undefined, };

/**
 * LAVa's scores (arXiv 2509.09754): SnapKV's attention (maximum pooling) times the largest ‖v‖₁ of the head's slots before the window; maximum over the
 * query heads of a KV head.
 *
 * The factor is one number a head: it moves slots between heads and layers, never within a head.
 */
export type Lava = { 
/**
 * Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * Odd width of the maximum. Default 7.
 */
kernel?: number | undefined, };

/**
 * LAVa (arXiv 2509.09754): layers share by the entropy of their scores, heads of a layer compete.
 */
export type LavaPolicy = { 
/**
 * Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * Odd width of the maximum. Default 7.
 */
kernel?: number | undefined, 
/**
 * Share α in [0, 1] that every head gets regardless of its scores. Default 0.2, as in the paper's experiments.
 */
floor?: number | undefined, 
/**
 * Weigh a head's scores by the mass that its own best B/H slots hold before the heads compete (an option of the paper's
 * code; for scores that are not negative). Default false.
 */
normalize?: boolean | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * Layer-DefensiveKV (arXiv 2510.13334): defensive scores, all layers and heads compete.
 */
export type LayerDefensiveKVPolicy = { 
/**
 * Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * Odd width of the average. Default 5.
 */
kernel?: number | undefined, 
/**
 * Share of the mean attention that is put first, in [0, 1]. Default 0.9.
 */
mass?: number | undefined, 
/**
 * How the length of v W_O is measured. Default `"l2"`; the paper's is `"l1"`.
 */
norm?: Norm | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * What leverage is made of.
 */
export type Leverage = "key" | "value" | "mean" | "product";

/**
 * Statistical leverage of the keys (Compactor, arXiv 2507.08143): keys stay that are unlike a mixture of the others.
 *
 * Of the keys before their rotation, X = K − mean(K): ℓ_j = x_jᵀ (XᵀX + 0.01 I)⁻¹ x_j, then z-scores over all heads and slots of the layer. Needs no
 * queries. kvpress multiplies X by a random D × 48 matrix first, which makes nothing cheaper where D is 64 or 128 and the Gram matrix
 * ill-conditioned; here X is used as it is unless a sketch is asked for. Computed in f64.
 */
export type LeverageScore = { 
/**
 * Columns of a random Gaussian sketch, 0 (none, the default) to 4096.
 */
sketch?: number | undefined, 
/**
 * Where the sketch's random numbers start.
 */
seed?: number | undefined, };

/**
 * Another scorer's scores, computed for each chunk of neighbouring positions as if there were no other (kvpress's ChunkPress).
 *
 * For scorers that look at keys and values alone; one that needs queries or what was gathered is refused.
 */
export type Local = { 
/**
 * Whose scores. Default `{ kind: "knorm" }`.
 */
base?: Scorer | undefined, 
/**
 * Positions of a chunk. Default 1024.
 */
length?: number | undefined, };

/**
 * Our own default for prompts that hold the question: what the last queries attend to and what follows it, weighed by the length of its value, the best
 * of the whole cache.
 *
 * s_j = max over the last `window` queries and the query heads of a KV head of fade^n · a_j · ‖v_j‖₂, n queries being later than the one that looks: the
 * question is near the end, what the text is about is not. Then look-ahead, s'_j = max over 0 ≤ d ≤ span of decay^d · s_(j−d): a head that attends to the
 * start of a span now will want its continuation next. All layers and heads compete with the scores that they have: long values are where much of the
 * output is made. The first `sinks` tokens stay: their values are small and so are their scores, but attention that they had would go elsewhere without
 * them. Why, and what was tried: docs/lookahead.md.
 */
export type LookaheadPolicy = { 
/**
 * Last prompt tokens whose queries vote. Default 64.
 */
window?: number | undefined, 
/**
 * What is left of a vote for each later one, in (0, 1]. Default 0.97.
 */
fade?: number | undefined, 
/**
 * Last tokens that stay in any case. Default 8.
 */
recent?: number | undefined, 
/**
 * First tokens that stay in any case. Default 4.
 */
sinks?: number | undefined, 
/**
 * How many slots importance reaches forward. Default 24.
 */
span?: number | undefined, 
/**
 * How much is left of it after each slot, in (0, 1]. Default 0.9.
 */
decay?: number | undefined, 
/**
 * Share of the budget that every head gets regardless of its scores. Default 0.
 */
floor?: number | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * MixKV (arXiv 2510.20707, ICLR 2026): importance where a head's keys differ, diversity where they are alike.
 *
 * s = (1 − r) · importance + r · diversity. r is the mean cosine of pairs of different keys, (T ‖mean k̂‖² − 1) / (T − 1), over all slots of the head.
 * Importance: SnapKV's attention (average pooling) plus ‖v‖₂; diversity: −k̂ · mean k̂. Norm and diversity are scaled to [0, 1] over the slots
 * before the window and then to the mean of the attention, so that the three weigh alike. r comes from the prompt itself, as in the paper; its code
 * reads it from a table that was measured before.
 */
export type MixKV = { 
/**
 * Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * Odd width of the average. Default 5.
 */
kernel?: number | undefined, };

/**
 * NACL (arXiv 2408.03675, ACL 2024): attention of proxy tokens at the prompt's end, and part of the kept slots by chance, so that not all heads lose
 * the same ones.
 *
 * Scores are sums over the proxies' rows, mean over the query heads of a KV head, no pooling. Of the slots that a head keeps on average, the share
 * `random` is drawn without replacement, each head for itself, from those that are not among the best, with probabilities softmax(score): the best
 * scores plus Gumbel noise, which is the same. Drawn slots come after the best ones. (Published code; the paper unites both sets, which may overlap.)
 * A slot's draw depends on the seed, its layer, head and position alone.
 */
export type Nacl = { 
/**
 * Proxies: last tokens whose queries vote and which stay, 1 to 4096. Default 32 (the code takes a hundredth of the prompt).
 */
window?: number | undefined, 
/**
 * Share of a head's slots that is drawn, in [0, 1]. Default 0.37: 7 of the 19 parts of the published setting.
 */
random?: number | undefined, 
/**
 * Other seeds, other draws. Default 0.
 */
seed?: number | undefined, };

/**
 * Non-causal attention inside chunks (Compactor, arXiv 2507.08143): how much the queries of a slot's own chunk attend to it, those before it too.
 *
 * Column sums of softmax(q · k), not divided by √d, over the chunk's queries and keys; mean over the query heads of a KV head; times ‖v‖₂; averaged
 * over three neighbours; then z-scores over all heads and slots of the layer. The last chunk is as long as the text leaves it (kvpress fills it up with
 * zeros that its mask of −1e−9 does not hide; see `compat`). The sums are gathered while tokens are read: the session must have this policy from
 * the start. Needs no question.
 */
export type NonCausal = { 
/**
 * Positions of a chunk, 1 to 4096. Default 256.
 */
chunk?: number | undefined, };

/**
 * How long a vector is.
 */
export type Norm = "l1" | "l2";

/**
 * ReFreeKV, first DBudgetKV (arXiv 2502.16886): of each head the fewest slots, in the scorer's order, without which the norm of the last query's attention
 * falls by less than `loss`: 1 − √(Σ kept a²) / ‖a‖₂ < loss, with a the mean over the query heads of the KV head.
 *
 * With the scorer `recency` and four protected sinks this is the paper's rule; over the attention itself it keeps less for the same loss. The paper
 * leaves out the first two layers (`protect: { layers: 2 }`). Its code decides once a layer and leaves the sinks out of the norm.
 */
export type NormRule = { 
/**
 * What may be lost of the norm, in (0, 1). Default 0.01.
 */
loss?: number | undefined, 
/**
 * First slots that come before all others, whatever their score. Default 4.
 */
sinks?: number | undefined, };

/**
 * Of each head the fewest slots, best first, that together hold the share `mass` of its scores: a head that looks at little keeps little. For scores
 * that are not negative.
 */
export type Nucleus = { 
/**
 * Share of the scores' sum, in (0, 1]. Default 0.95.
 */
mass?: number | undefined, };

/**
 * Observed attention (kvpress, after H2O): the mean attention that a slot has got from the queries that could see it.
 *
 * `s_j = Σ_i a_ij / (T − j)` per query head, mean over the query heads of a KV head. The sums are gathered while tokens are read, so the
 * session must have this policy (or `h2o`) from the start. No slot is protected, not even the newest.
 */
export type ObservedAttention = Record<symbol, never>;

/**
 * Every chunk of neighbouring positions keeps its share of each head's slots (kvpress's ChunkPress): no part of the text is lost whole.
 */
export type PerChunk = { 
/**
 * Positions of a chunk. Default 1024, as in kvpress.
 */
length?: number | undefined, };

/**
 * Every head keeps the same number of slots, its own best ones (SnapKV, PyramidKV, key norm).
 */
export type PerHead = Record<symbol, never>;

/**
 * A policy as people write it, told apart by `kind`: a preset, or a scorer's name with that scorer's options.
 *
 * ```json
 * { "kind": "snapKV", "window": 32, "budget": { "tokensPerHead": 256 } }
 * { "kind": "adaKV", "base": { "kind": "knorm" }, "floor": 0.2, "budget": { "keep": 0.2 } }
 * { "kind": "custom", "scorer": { "kind": "tova" }, "allocator": { "kind": "pyramid" }, "budget": { "bytes": 8000000 } }
 * ```
 *
 * Unknown fields are errors. What is left out has the default of the Rust type.
 */
export type PolicySpec = Preset | ScorerPolicy;

/**
 * Which comes first. It matters where one of the two is a maximum.
 */
export type PoolOrder = "groupFirst" | "poolFirst";

/**
 * Pooling along the positions, stride 1, as long as its input.
 */
export type Pooling = { "kind": "none", } | { "kind": "average", 
/**
 * Odd width, default 5.
 */
kernel?: number, } | { "kind": "max" | undefined, 
/**
 * Odd width, default 7.
 */
kernel?: number, } | { "kind": "lookAhead" | undefined, 
/**
 * Reach in slots, at most 4096. Default 24.
 */
span?: number | undefined, 
/**
 * What is left after each slot, in (0, 1]. Default 0.9.
 */
decay?: number | undefined, };

/**
 * Policies that are more than a scorer.
 */
export type Preset = { "kind": "full" } & FullPolicy | { "kind": "streamingLLM" } & StreamingLLMPolicy | { "kind": "pyramidKV" } & PyramidKVPolicy | { "kind": "adaKV" } & AdaKVPolicy | { "kind": "default" } & DefaultPolicy | { "kind": "lookahead" } & LookaheadPolicy | { "kind": "echo" } & EchoPolicy | { "kind": "certified" } & CertifiedPolicy | { "kind": "laProx" } & LaProxPolicy | { "kind": "layerDefensiveKV" } & LayerDefensiveKVPolicy | { "kind": "criticalAdaKV" } & CriticalAdaKVPolicy | { "kind": "cake" } & CakePolicy | { "kind": "lava" } & LavaPolicy | { "kind": "dynamicKV" } & DynamicKVPolicy | { "kind": "chunkKV" } & ChunkKVPolicy | { "kind": "kvCrush" } & KVCrushPolicy | { "kind": "kvCompress" } & KVCompressPolicy | { "kind": "kvzip" } & KvzipPolicy | { "kind": "citrus" } & CitrusPolicy | { "kind": "fastGen" } & FastGenPolicy | { "kind": "sageKV" } & SageKVPolicy | { "kind": "refreeKV" } & RefreeKVPolicy | { "kind": "custom" } & CustomPolicy;

/**
 * Slots that no scorer can evict, beside the scorer's own window. They are subtracted from the budget first; a budget below
 * them is an error.
 */
export type Protect = { 
/**
 * First positions of the text (attention sinks). Default 0.
 */
sinks?: number | undefined, 
/**
 * First layers, which keep everything (the key-norm paper leaves out two). Default 0.
 */
layers?: number | undefined, 
/**
 * Ranges of positions. Default none.
 */
spans?: Array<Span> | undefined, };

/**
 * PyramidKV (arXiv 2406.02069): a straight line from the first layer down to the last.
 *
 * With b slots a layer on average, the last layer gets b/β and the first 2b − b/β. The line is over the slots that compete
 * (protected ones come on top), is rounded by largest remainder, and what a layer cannot fill goes to the others, so that
 * the sum is exact; the published implementations lose or repeat slots there (see `compat`).
 */
export type Pyramid = { 
/**
 * Steepness β, at least 1 (flat). Default 20, as in the paper.
 */
beta?: number | undefined, };

/**
 * PyramidKV (arXiv 2406.02069): SnapKV scores, lower layers keep more than higher ones.
 */
export type PyramidKVPolicy = { 
/**
 * Steepness β, at least 1 (flat). Default 20, as in the paper.
 */
beta?: number | undefined, 
/**
 * Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * Last tokens that stay in any case. Fewer than the window: its other tokens compete by what the queries behind them give. Default: the window.
 */
recent?: number | undefined, 
/**
 * How the window's rows are reduced. Default `"mean"`.
 */
rows?: RowReduce | undefined, 
/**
 * What is left of a row's attention for each row behind it, in (0, 1]. Default 1: all count alike.
 */
fade?: number | undefined, 
/**
 * What attention is multiplied with, before the group is reduced. Default: nothing.
 */
weight?: Weight | undefined, 
/**
 * How the query heads of a KV head are reduced. Default `"mean"`.
 */
group?: GroupReduce | undefined, 
/**
 * Pooling along the positions. Default `{ kind: "max", kernel: 7 }`.
 */
pool?: Pooling | undefined, 
/**
 * Whether the group is reduced before pooling. Default `"groupFirst"`.
 */
order?: PoolOrder | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * When the question is known.
 */
export type Question = "known" | "later" | "none";

/**
 * The control that any other policy has to beat: scores drawn evenly from [0, 1), independently for every layer, head and token.
 *
 * A token's draw depends on the seed, its layer, head and position alone (SplitMix64 over them), so that a second compression goes on with the
 * scores of the first one.
 */
export type Random = { 
/**
 * Other seeds, other draws. Default 0.
 */
seed?: number | undefined, };

/**
 * The newer the better: the score is the position. With sinks it is StreamingLLM.
 */
export type Recency = { 
/**
 * This many last tokens are protected (they are kept first anyway; with `compat: "kvcacheFactory"` they are the recent
 * ones and sinks take the rest). Default 0.
 */
window?: number | undefined, };

/**
 * KVzip (arXiv 2505.23416): what the model looks at when it is made to repeat the text.
 *
 * `s_j = max a_ij` over the query heads of a KV head and the tokens i of the repetition of j's part, whose own keys and all of the cache are in the
 * softmax. Normalized (KVzip+): `max a_ij · ‖W_O v_j‖₂ / ‖x_i‖₂`, x_i the normed hidden state of i. The published code computes the
 * softmax over the first 4 tokens, the part and its repetition alone, because it computes it beside the attention; here it is the attention itself,
 * which is the same for a text of one part. It asks for no observation, but for one more reading of the text when the cache is compressed.
 */
export type Reconstruction = { 
/**
 * Tokens that are repeated at a time, 16 or more; fewer where the model's context has no room for as many behind the text. Default 2048.
 */
chunk?: number | undefined, 
/**
 * Weigh attention by what the value adds to the hidden state (KVzip+). Default false.
 */
normalized?: boolean | undefined, };

/**
 * ReFreeKV, first DBudgetKV (arXiv 2502.16886): the budget comes out of the text: first tokens, then from the newest backwards as many as the last
 * query's attention needs. The budget given is a cap.
 */
export type RefreeKVPolicy = { 
/**
 * What may be lost of the norm of the last query's attention, in (0, 1). Default 0.01.
 */
loss?: number | undefined, 
/**
 * First tokens that stay. Default 4.
 */
sinks?: number | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * ReST-KV (arXiv 2605.08840, ICLR 2026): how much the layer's output changes when a slot is taken away.
 *
 * Per query of the window and query head: a / (1 − a) · ‖(o − v) W_O‖₂, the exact change with the softmax renormalised. Rows are smoothed over time,
 * Ī = α I + (1 − α) Ī from the oldest on. Then a box average over positions, ends repeated, whose width grows with the drift D of attention: the
 * mean position of the slots that each row of the window's first half attends to most (as many as the budget leaves), minus that of the second half.
 * Width 2⌊|D| / β⌋ + 1, at least `kernel`, centred at the slot + trunc(D / β). Mean over the query heads of a KV head.
 *
 * This is the paper's order; its published runs average attention over the rows first (and its code shifts by one where nothing drifts).
 */
export type RestKV = { 
/**
 * Last tokens whose queries vote and which stay, 2 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * α, weight of the newer row, in (0, 1]. Default 0.3.
 */
alpha?: number | undefined, 
/**
 * β, positions of drift for one more position of width, positive. Default 2000.
 */
beta?: number | undefined, 
/**
 * Least width, odd. Default 5.
 */
kernel?: number | undefined, };

/**
 * Reduction over the rows of the observation window.
 */
export type RowReduce = "mean" | "max" | "l2" | "squares" | "sum";

/**
 * SAGE-KV (arXiv 2503.08879): the attention of the prompt's last query alone, mean over the query heads of a KV head; first and recent tokens stay.
 */
export type SageKVPolicy = { 
/**
 * First tokens that stay. Default 4.
 */
sinks?: number | undefined, 
/**
 * Last tokens that stay. Default 32.
 */
recent?: number | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * When a session compresses by itself.
 */
export type Schedule = "afterPrefill" | "onDemand";

/**
 * How much a slot is worth.
 */
export type Scorer = { "kind": "snapKV" } & SnapKV | { "kind": "knorm" } & Knorm | { "kind": "keyDiff" } & KeyDiff | { "kind": "tova" } & Tova | { "kind": "lagKV" } & LagKV | { "kind": "cur" } & Cur | { "kind": "observedAttention" } & ObservedAttention | { "kind": "h2o" } & H2O | { "kind": "expectedAttention" } & ExpectedAttention | { "kind": "leverage" } & LeverageScore | { "kind": "nonCausal" } & NonCausal | { "kind": "compactor" } & Compactor | { "kind": "defensive" } & Defensive | { "kind": "restKV" } & RestKV | { "kind": "mixKV" } & MixKV | { "kind": "ahaKV" } & AhaKV | { "kind": "nacl" } & Nacl | { "kind": "finch" } & Finch | { "kind": "cakeScores" } & Cake | { "kind": "lavaScores" } & Lava | { "kind": "capKV" } & CapKV | { "kind": "reconstruction" } & Reconstruction | { "kind": "echoScores" } & EchoScores | { "kind": "instruction" } & Instruction | { "kind": "local" } & Local | { "kind": "weighted" } & Weighted | { "kind": "caote" } & Caote | { "kind": "either" } & Either | { "kind": "recency" } & Recency | { "kind": "random" } & Random;

/**
 * A scorer by its `kind`, uniform over layers and heads.
 */
export type ScorerPolicy = ({ "kind": "snapKV" } & SnapKV | { "kind": "knorm" } & Knorm | { "kind": "keyDiff" } & KeyDiff | { "kind": "tova" } & Tova | { "kind": "lagKV" } & LagKV | { "kind": "cur" } & Cur | { "kind": "observedAttention" } & ObservedAttention | { "kind": "h2o" } & H2O | { "kind": "expectedAttention" } & ExpectedAttention | { "kind": "leverage" } & LeverageScore | { "kind": "nonCausal" } & NonCausal | { "kind": "compactor" } & Compactor | { "kind": "defensive" } & Defensive | { "kind": "restKV" } & RestKV | { "kind": "mixKV" } & MixKV | { "kind": "ahaKV" } & AhaKV | { "kind": "nacl" } & Nacl | { "kind": "finch" } & Finch | { "kind": "cakeScores" } & Cake | { "kind": "lavaScores" } & Lava | { "kind": "capKV" } & CapKV | { "kind": "reconstruction" } & Reconstruction | { "kind": "echoScores" } & EchoScores | { "kind": "instruction" } & Instruction | { "kind": "local" } & Local | { "kind": "weighted" } & Weighted | { "kind": "caote" } & Caote | { "kind": "either" } & Either | { "kind": "recency" } & Recency | { "kind": "random" } & Random) & { 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * CriticalKV (arXiv 2502.03805, ICML 2026): half of what a head keeps is chosen by the scorer; for the rest each slot's score is weighed by how much its
 * value can move the output, (s + ε) · ‖v W_O‖, mean over the query heads of the KV head.
 *
 * The paper measures by L1, from a bound on the change of the layer's output; that takes each value through W_O once for each query head. ‖v W_O‖₂ costs a
 * tenth of it, and nearly all that stays is the same (docs/performance.md). How many slots a head keeps is settled before, by the scorer alone.
 */
export type SecondStage = { 
/**
 * Share of a head's slots that the scorer alone chooses, in [0, 1]. Default 0.5.
 */
first?: number | undefined, 
/**
 * ε, so that a slot without attention has a weight too, not negative. Default 1e-4.
 */
epsilon?: number | undefined, 
/**
 * How the length of v W_O is measured. Default `"l2"`; the paper's is `"l1"`.
 */
norm?: Norm | undefined, };

/**
 * Which slots stay.
 */
export type Selector = { "kind": "perHead" } & PerHead | { "kind": "acrossHeads" } & AcrossHeads | { "kind": "acrossLayers" } & AcrossLayers | { "kind": "shared" } & Shared | { "kind": "chunks" } & Chunks | { "kind": "perChunk" } & PerChunk | { "kind": "headWeights" } & HeadWeights | { "kind": "crush" } & Crush | { "kind": "composite" } & Composite;

/**
 * All heads of a layer keep the same slots, those whose scores sum to most over the heads. Where the budget is no multiple of the heads, the
 * first of them keep one slot more.
 */
export type Shared = Record<symbol, never>;

/**
 * SimLayerKV (arXiv 2410.13846): a lazy layer, whose last queries look at little but the first and the most recent tokens, keeps only those; the
 * others keep all.
 *
 * Lazy: the mean over heads and the last `last` queries of the attention to the first `initial` and the `recent` slots before the last ones is above
 * `threshold`. kvpress keeps other recent slots than it measures (`recent − last` of them, and not those right before the last); here they are
 * the same, the last ones included (see `compat`).
 */
export type SimLayer = { 
/**
 * Attention above which a layer is lazy, in (0, 1]; 1: never. Default 0.9, the paper's for Llama 3 (Llama 2: 0.65, Mistral: 0.8, Qwen: 0.85).
 */
threshold?: number | undefined, 
/**
 * First tokens. Default 4.
 */
initial?: number | undefined, 
/**
 * Most recent tokens. Default 1024.
 */
recent?: number | undefined, 
/**
 * Last queries that are asked, 1 to 4096. Default 1.
 */
last?: number | undefined, };

/**
 * SnapKV (arXiv 2404.14469): how much the last prompt queries attend to a slot.
 *
 * Softmax of the window's queries over all slots (the window's own are in the denominator, then dropped), reduced over the
 * window's rows and over the query heads of a KV head, and pooled along the positions so that neighbours of an important slot
 * stay too. The window itself is protected.
 *
 * The defaults are those of the AdaKV repository's experiments (window 32, max pooling 7, means): the best published record of
 * the variants. kvpress is `{ window: 64, pool: { kind: "average", kernel: 5 }, order: "poolFirst" }`.
 */
export type SnapKV = { 
/**
 * Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
 */
window?: number | undefined, 
/**
 * Last tokens that stay in any case. Fewer than the window: its other tokens compete by what the queries behind them give. Default: the window.
 */
recent?: number | undefined, 
/**
 * How the window's rows are reduced. Default `"mean"`.
 */
rows?: RowReduce | undefined, 
/**
 * What is left of a row's attention for each row behind it, in (0, 1]. Default 1: all count alike.
 */
fade?: number | undefined, 
/**
 * What attention is multiplied with, before the group is reduced. Default: nothing.
 */
weight?: Weight | undefined, 
/**
 * How the query heads of a KV head are reduced. Default `"mean"`.
 */
group?: GroupReduce | undefined, 
/**
 * Pooling along the positions. Default `{ kind: "max", kernel: 7 }`.
 */
pool?: Pooling | undefined, 
/**
 * Whether the group is reduced before pooling. Default `"groupFirst"`.
 */
order?: PoolOrder | undefined, };

/**
 * Positions `start ..< end`.
 */
export type Span = { 
/**
 * First position.
 */
start: number, 
/**
 * One past the last position.
 */
end: number, };

/**
 * StreamingLLM (arXiv 2309.17453): attention sinks and the most recent tokens, the same in every head.
 */
export type StreamingLLMPolicy = { 
/**
 * First tokens that always stay. Default 4, as in the paper.
 */
sinks?: number | undefined, 
/**
 * This many last tokens are protected (they are kept first anyway; with `compat: "kvcacheFactory"` they are the recent
 * ones and sinks take the rest). Default 0.
 */
window?: number | undefined, 
/**
 * How much may stay. Has no default: a policy without a budget is an error (for adaKV it may stand on the base instead).
 */
budget?: Budget | undefined, 
/**
 * What may not be evicted. Default: only the scorer's own window.
 */
protect?: Protect | undefined, 
/**
 * When the session compresses by itself. Default `"afterPrefill"`.
 */
schedule?: Schedule | undefined, 
/**
 * Close the gaps: the keys that stay are turned to consecutive rotary positions in each head, and the next token follows, so that it is as far from
 * them as if nothing had stood between (StreamingLLM; kvpress's `KeyRerotationPress`). The model's context then holds what is kept and not what was
 * read. Keys are rounded to the codec once more; later cuts of the session close their gaps too. Default false.
 */
renumber?: boolean | undefined, 
/**
 * Reproduce a published implementation's budgets and selection, rounding included. Default: exact budgets.
 */
compat?: Compat | undefined, };

/**
 * Slots whose score is at least a number (as in kvpress's DMSPress).
 */
export type Threshold = { 
/**
 * The least score, in the scorer's own units.
 */
least: number, };

/**
 * TOVA (arXiv 2401.06104): attention of the last query, averaged over all heads of the layer, so that every head keeps the
 * same slots. The last token is protected, as in kvpress (the paper does not force it).
 */
export type Tova = Record<symbol, never>;

/**
 * Every layer gets the same.
 */
export type Uniform = Record<symbol, never>;

/**
 * What a slot's score is multiplied with: the length of its value, or of what W_O makes of it.
 */
export type Weight = { 
/**
 * Length of what. Default `"output"`.
 */
by?: WeightBy | undefined, 
/**
 * How it is measured. Default `"l2"`.
 */
norm?: Norm | undefined, };

/**
 * What a slot's weight is the length of.
 */
export type WeightBy = "value" | "output" | "change";

/**
 * Another scorer's scores, (s + ε) times how much the slot's value can move the output: ‖v‖ or ‖v W_O‖ (mean over the query heads of a KV head).
 *
 * For scores that are not negative. Slots of the base's window stay protected.
 */
export type Weighted = { 
/**
 * Whose scores. Default `{ kind: "snapKV" }`.
 */
base?: Scorer | undefined, 
/**
 * ε, not negative. Default 0.
 */
epsilon?: number | undefined, 
/**
 * Length of what. Default `"output"`.
 */
by?: WeightBy | undefined, 
/**
 * How it is measured. Default `"l2"`.
 */
norm?: Norm | undefined, };

/**
 * Layers share the budget by given weights: those of a calibration, or of a search as in EvolKV (arXiv 2509.08315); kvpress's
 * PerLayerCompressionPress.
 */
export type Weights = { 
/**
 * One number a layer, not negative; only their proportions matter. Layers that the list does not reach weigh as much as its last.
 */
weights: Array<number>, };
