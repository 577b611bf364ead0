// What the last queries give to each slot (contract: mod.rs), in two passes over the keys, so that no row of probabilities is ever stored: the first
// finds maximum and sum of every tile, the second computes the logits anew and reduces the rows.
//
// A CTA of 256 threads takes 128 slots of a KV head and the rows of one query head, 32 rows at a time: a product of 128 × 32 sums, eight slots and two
// rows a thread, over pieces of 32 numbers in shared memory.
#include "device.cuh"

constexpr u32 SCORE_SLOTS = 128, SCORE_ROWS = 32, PIECE = 32;
// Four more than a piece: eight rows that lie side by side then begin in eight different groups of banks.
constexpr u32 PITCH = PIECE + 4;
constexpr u32 THREAD_SLOTS = 8, THREAD_ROWS = 2;

enum ScoreRows { ROWS_MEAN = 0, ROWS_MAX = 1, ROWS_L2 = 2, ROWS_SUM = 3 };

struct ScoreJob {
    Head head;
    // Of its slots, ascending. `[len]`
    const u32 *positions;
    // Where its scores begin, `[group][len]`.
    u64 out;
    // Its tiles, and where their statistics begin, in `[group][rows]`.
    u32 tiles;
    u32 first_tile;
};

struct ScoreParams {
    Layout layout;
    float scale;
    const ScoreJob *jobs;
    const Chunk *chunks;
    // `[rows][query_heads][head_dim]`
    const float *q;
    // Of the rows.
    const u32 *positions;
    // Of tiles: maximum (of base 2) and sum. `[tile][group][rows]`
    float2 *tiles;
    // What is left of each row. `[rows]`
    const float *fades;
    // Of rows: maximum and what is left / sum. `[kv head][group][rows]`
    float2 *totals;
    float *out;
    u32 rows;
    u32 group;
    u32 query_heads;
    u32 reduce;
};

struct ScoreShared {
    float keys[SCORE_SLOTS * PITCH];
    float queries[SCORE_ROWS * PITCH];
    u32 slot_positions[SCORE_SLOTS];
    // Of the two warps that share rows, then of the four that share slots.
    float halves[2][SCORE_ROWS];
    float quarters[4][SCORE_SLOTS];
};

template <class Codec>
struct ScoreTile {
    const ScoreParams &p;
    ScoreShared &shared;
    ScoreJob job;
    u32 start, slots, group_head, query_head;
    // Of this thread: its lane, the first of its slots and rows, and the pair and the quad of warps that it is of.
    u32 slot, row, slot_half, row_quarter;
    float sums[THREAD_SLOTS][THREAD_ROWS];

    __device__ ScoreTile(const ScoreParams &p, ScoreShared &shared) : p(p), shared(shared) {
        const Chunk chunk = p.chunks[blockIdx.x];
        job = p.jobs[chunk.row];
        start = chunk.index * SCORE_SLOTS;
        slots = job.head.len - start < SCORE_SLOTS ? job.head.len - start : SCORE_SLOTS;
        group_head = blockIdx.y;
        query_head = chunk.row * p.group + group_head;
        const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
        slot_half = warp % 2;
        row_quarter = warp / 2;
        slot = slot_half * 8 + lane % 8;
        row = (row_quarter * 4 + lane / 8) * THREAD_ROWS;
        for (u32 i = threadIdx.x; i < SCORE_SLOTS; i += blockDim.x) shared.slot_positions[i] = i < slots ? job.positions[start + i] : 0;
    }

    // Logits (of base 2) of the rows from `first` on; those of slots that a row does not see are -∞.
    __device__ void logits(u32 first) {
        const u32 dim = p.layout.head_dim;
        const bool aligned = dim % 8 == 0 && p.layout.row_bytes % Codec::ALIGN == 0;
#pragma unroll
        for (u32 i = 0; i < THREAD_SLOTS; i++)
#pragma unroll
            for (u32 j = 0; j < THREAD_ROWS; j++) sums[i][j] = 0.0f;
        for (u32 piece = 0; piece < dim; piece += PIECE) {
            __syncthreads();
            for (u32 i = threadIdx.x; i < SCORE_SLOTS * (PIECE / 8); i += blockDim.x) {
                const u32 at = i / (PIECE / 8), d = i % (PIECE / 8) * 8;
                float key[8];
                float scale = 0.0f;
                if (at < slots) {
                    const u8 *from = row_of(p.layout, job.head, start + at, 0);
                    eight_of<Codec>(from, piece + d, dim, aligned, key);
                    scale = Codec::scale(from, dim);
                }
#pragma unroll
                for (u32 e = 0; e < 8; e++) shared.keys[at * PITCH + d + e] = at < slots ? key[e] * scale : 0.0f;
            }
            for (u32 i = threadIdx.x; i < SCORE_ROWS * PIECE; i += blockDim.x) {
                const u32 at = i / PIECE, d = piece + i % PIECE;
                const bool there = first + at < p.rows && d < dim;
                const float *from = p.q + (u64(first + at) * p.query_heads + query_head) * dim;
                shared.queries[at * PITCH + i % PIECE] = there ? from[d] * (p.scale * LOG2E) : 0.0f;
            }
            __syncthreads();
#pragma unroll
            for (u32 d = 0; d < PIECE; d += 4) {
                float4 q[THREAD_ROWS];
#pragma unroll
                for (u32 j = 0; j < THREAD_ROWS; j++) q[j] = *(const float4 *)&shared.queries[(row + j) * PITCH + d];
#pragma unroll
                for (u32 i = 0; i < THREAD_SLOTS; i++) {
                    const float4 k = *(const float4 *)&shared.keys[(slot + 16 * i) * PITCH + d];
#pragma unroll
                    for (u32 j = 0; j < THREAD_ROWS; j++) {
                        sums[i][j] = fmaf(q[j].x, k.x, sums[i][j]);
                        sums[i][j] = fmaf(q[j].y, k.y, sums[i][j]);
                        sums[i][j] = fmaf(q[j].z, k.z, sums[i][j]);
                        sums[i][j] = fmaf(q[j].w, k.w, sums[i][j]);
                    }
                }
            }
        }
#pragma unroll
        for (u32 j = 0; j < THREAD_ROWS; j++) {
            const bool there = first + row + j < p.rows;
            const u32 position = there ? p.positions[first + row + j] : 0;
#pragma unroll
            for (u32 i = 0; i < THREAD_SLOTS; i++) {
                const u32 at = slot + 16 * i;
                if (!there || at >= slots || shared.slot_positions[at] > position) sums[i][j] = -INF;
            }
        }
    }

    // Joins what the threads of a row have, in a fixed order.
    template <class JOIN>
    __device__ void join(float (&mine)[THREAD_ROWS], JOIN join) {
#pragma unroll
        for (u32 j = 0; j < THREAD_ROWS; j++) {
#pragma unroll
            for (u32 bit = 4; bit > 0; bit /= 2) mine[j] = join(mine[j], __shfl_xor_sync(ALL, mine[j], bit));
            if (threadIdx.x % 8 == 0) shared.halves[slot_half][row + j] = mine[j];
        }
        __syncthreads();
#pragma unroll
        for (u32 j = 0; j < THREAD_ROWS; j++) mine[j] = join(shared.halves[0][row + j], shared.halves[1][row + j]);
        __syncthreads();
    }
};

struct Larger {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct Plus {
    __device__ float operator()(float a, float b) const { return a + b; }
};

template <class Codec>
__device__ __forceinline__ void score_tiles(const ScoreParams &p, unsigned char *memory) {
    ScoreShared &shared = *(ScoreShared *)memory;
    ScoreTile<Codec> tile(p, shared);
    for (u32 first = 0; first < p.rows; first += SCORE_ROWS) {
        tile.logits(first);
        float most[THREAD_ROWS], total[THREAD_ROWS];
#pragma unroll
        for (u32 j = 0; j < THREAD_ROWS; j++) {
            most[j] = -INF;
#pragma unroll
            for (u32 i = 0; i < THREAD_SLOTS; i++) most[j] = fmaxf(most[j], tile.sums[i][j]);
        }
        tile.join(most, Larger());
#pragma unroll
        for (u32 j = 0; j < THREAD_ROWS; j++) {
            total[j] = 0.0f;
#pragma unroll
            for (u32 i = 0; i < THREAD_SLOTS; i++) {
                const float logit = tile.sums[i][j];
                total[j] += logit == -INF ? 0.0f : exp2_of(logit - most[j]);
            }
        }
        tile.join(total, Plus());
        if (tile.slot == 0) {
#pragma unroll
            for (u32 j = 0; j < THREAD_ROWS; j++) {
                const u32 row = first + tile.row + j;
                if (row >= p.rows) continue;
                const u64 index = u64(tile.job.first_tile + tile.start / SCORE_SLOTS) * p.group + tile.group_head;
                p.tiles[index * p.rows + row].x = most[j];
                p.tiles[index * p.rows + row].y = total[j];
            }
        }
    }
}

template <class Codec>
__device__ __forceinline__ void score_slots(const ScoreParams &p, unsigned char *memory) {
    ScoreShared &shared = *(ScoreShared *)memory;
    ScoreTile<Codec> tile(p, shared);
    float all = 0.0f;
    for (u32 first = 0; first < p.rows; first += SCORE_ROWS) {
        tile.logits(first);
        float most[THREAD_ROWS], inverse[THREAD_ROWS];
#pragma unroll
        for (u32 j = 0; j < THREAD_ROWS; j++) {
            const u32 row = first + tile.row + j;
            most[j] = inverse[j] = 0.0f;
            if (row < p.rows) {
                const float2 total = p.totals[u64(tile.query_head) * p.rows + row];
                most[j] = total.x;
                inverse[j] = total.y;
            }
        }
#pragma unroll
        for (u32 i = 0; i < THREAD_SLOTS; i++) {
            float joined = 0.0f;
#pragma unroll
            for (u32 j = 0; j < THREAD_ROWS; j++) {
                const float logit = tile.sums[i][j];
                const float x = logit == -INF ? 0.0f : exp2_of(logit - most[j]) * inverse[j];
                joined = p.reduce == ROWS_MAX ? fmaxf(joined, x) : joined + (p.reduce == ROWS_L2 ? x * x : x);
            }
            // The rows of a slot are in four lanes and four warps.
#pragma unroll
            for (u32 bit = 8; bit < WARP; bit *= 2) {
                const float other = __shfl_xor_sync(ALL, joined, bit);
                joined = p.reduce == ROWS_MAX ? fmaxf(joined, other) : joined + other;
            }
            if (threadIdx.x % WARP < 8) shared.quarters[tile.row_quarter][tile.slot + 16 * i] = joined;
        }
        __syncthreads();
        if (threadIdx.x < SCORE_SLOTS) {
            for (u32 quarter = 0; quarter < 4; quarter++) {
                const float other = shared.quarters[quarter][threadIdx.x];
                all = p.reduce == ROWS_MAX ? fmaxf(all, other) : all + other;
            }
        }
    }
    if (threadIdx.x < tile.slots) {
        if (p.reduce == ROWS_MEAN) all /= float(p.rows);
        if (p.reduce == ROWS_L2) all = sqrtf(all);
        p.out[tile.job.out + u64(tile.group_head) * tile.job.head.len + tile.start + threadIdx.x] = all;
    }
}

// Joins the tiles of a KV head. One CTA a query head: eight threads a row take every eighth tile each, 32 rows at a time.
ENTRY(score_totals, ScoreParams) {
    DYNAMIC_SHARED(memory);
    float2 *parts = (float2 *)memory;
    const ScoreJob job = p.jobs[blockIdx.x];
    const u32 at = threadIdx.x % SCORE_ROWS, part = threadIdx.x / SCORE_ROWS, step = blockDim.x / SCORE_ROWS;
    for (u32 first = 0; first < p.rows; first += SCORE_ROWS) {
        const u32 row = first + at;
        float most = -INF, total = 0.0f;
        for (u32 tile = part; tile < job.tiles && row < p.rows; tile += step) {
            const float2 next = p.tiles[(u64(job.first_tile + tile) * p.group + blockIdx.y) * p.rows + row];
            if (next.x == -INF) continue;
            const float higher = fmaxf(most, next.x);
            total = (most == -INF ? 0.0f : total * exp2_of(most - higher)) + next.y * exp2_of(next.x - higher);
            most = higher;
        }
        parts[threadIdx.x].x = most;
        parts[threadIdx.x].y = total;
        __syncthreads();
        if (part == 0 && row < p.rows) {
            for (u32 i = 1; i < step; i++) most = fmaxf(most, parts[i * SCORE_ROWS + at].x);
            total = 0.0f;
            for (u32 i = 0; i < step; i++) {
                const float2 next = parts[i * SCORE_ROWS + at];
                if (next.x != -INF) total += next.y * exp2_of(next.x - most);
            }
            float2 &out = p.totals[(u64(blockIdx.x) * p.group + blockIdx.y) * p.rows + row];
            // A row that sees nothing adds nothing.
            out.x = total == 0.0f ? 0.0f : most;
            out.y = total == 0.0f ? 0.0f : p.fades[row] / total;
        }
        __syncthreads();
    }
}
EXPORT(score_totals)

#define SCORES(codec)                                   \
    ENTRY_BOUNDS(score_tiles_##codec, ScoreParams, 256, 2) { \
        DYNAMIC_SHARED(memory);                         \
        score_tiles<codec>(p, memory);                  \
    }                                                   \
    EXPORT(score_tiles_##codec)                         \
    ENTRY_BOUNDS(score_slots_##codec, ScoreParams, 256, 2) { \
        DYNAMIC_SHARED(memory);                         \
        score_slots<codec>(p, memory);                  \
    }                                                   \
    EXPORT(score_slots_##codec)
SCORES(F32)
SCORES(Bf16)
SCORES(F16)
SCORES(Int8)

// The query heads of each KV head, `[group][len]`, to one row, in the order of the CPU. One thread a slot.
struct GroupParams {
    const float *in;
    float *out;
    const u64 *starts;
    const Chunk *chunks;
    u32 group;
    u32 reduce;
    u32 chunk_slots;
};
enum GroupReduce { GROUP_MEAN = 0, GROUP_MAX = 1, GROUP_SUM = 2 };

ENTRY(group_reduce, GroupParams) {
    const Chunk chunk = p.chunks[blockIdx.x];
    const u64 start = p.starts[chunk.row], len = p.starts[chunk.row + 1] - start;
    const float *in = p.in + start * p.group;
    for (u32 i = threadIdx.x; i < p.chunk_slots; i += blockDim.x) {
        const u64 slot = u64(chunk.index) * p.chunk_slots + i;
        if (slot >= len) break;
        float joined = in[slot];
        for (u32 g = 1; g < p.group; g++) {
            const float x = in[g * len + slot];
            joined = p.reduce != GROUP_MAX ? joined + x : x > joined || x != x ? x : joined;
        }
        p.out[start + slot] = p.reduce == GROUP_MEAN ? joined / float(p.group) : joined;
    }
}
EXPORT(group_reduce)
