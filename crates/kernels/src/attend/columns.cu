// What each slot gets of the weight that all rows give away (contract: `Columns` of mod.rs): a pass over the keys after attention, which knows the maximum
// and denominator of every row by then. Weights are computed anew in place of being kept; that is half of attention once more, and no memory.
//
// A CTA has 128 slots of a KV head and `heads` of its query heads, and goes through all their rows that see any of the slots. It alone adds to these
// columns, row after row within a tile and tile after tile, so the order of additions is fixed without atomics.
#include "attend.cuh"

enum AttendReduce { COLUMNS_SUM = 0, COLUMNS_MAX = 1 };

template <class Codec, u32 ROWS>
__device__ __forceinline__ void attend_columns(const AttendParams &p, unsigned char *shared) {
    typedef AttendTile<Codec, ROWS, 8> Tile;
    static_assert(Tile::SLOTS == Tile::THREADS, "a thread adds up one slot");
    const Chunk chunk = p.chunks[blockIdx.x];
    Tile tile(p, p.jobs[chunk.row], shared);
    const AttendJob &job = tile.job;
    const u32 start = chunk.index * p.chunk_slots, slot = start + threadIdx.x;
    const u32 first_head = blockIdx.y * p.heads, vectors = job.rows * p.heads;
    // Row r sees slots up to that one + r.
    const u32 before = job.head.len - job.rows;
    for (u32 first = start > before ? (start - before) * p.heads : 0; first < vectors; first += Tile::VECTORS) {
        tile.take(first, vectors, job.query + first_head, p.heads);
        float x[ROWS][8];
        tile.logits(start, x);
        // The weights lie where the keys were.
        __syncthreads();
#pragma unroll
        for (u32 i = 0; i < ROWS; i++) {
            const u32 vector = tile.row + Tile::DOWN * i, sees = tile.sees[vector];
            float2 total = {0.0f, 0.0f};
            float share = 0.0f;
            if (sees > 0) {
                total = p.totals[tile.at[vector]];
                share = (total.y == 0.0f ? 0.0f : 1.0f / total.y) * (p.factors ? p.factors[sees - 1 - before] : 1.0f);
            }
#pragma unroll
            for (u32 j = 0; j < 8; j++) {
                const u32 at = tile.column + Tile::ACROSS * j;
                // A share that is NaN shows in all slots that its row sees.
                const float weight = x[i][j] == -INF ? 0.0f : exp2_of(x[i][j] - total.x);
                tile.weights[vector * Tile::PITCH + at] = start + at < sees ? weight * share : 0.0f;
            }
        }
        __syncthreads();
        for (u32 head = 0; head < p.heads && slot < job.head.len; head++) {
            float joined = 0.0f;
            // Its first vector of the tile.
            for (u32 v = (head + p.heads - first % p.heads) % p.heads; v < Tile::VECTORS; v += p.heads) {
                const float weight = tile.weights[v * Tile::PITCH + threadIdx.x];
                joined = p.reduce == COLUMNS_MAX ? fmaxf(joined, weight) : joined + weight;
            }
            float &out = p.columns[job.columns + u64(first_head + head) * job.head.len + slot];
            out = p.reduce == COLUMNS_MAX ? fmaxf(out, joined) : out + joined;
        }
    }
}

// For up to as many vectors, and for more.
#define ATTEND_COLUMNS(codec, rows, vectors)                             \
    ENTRY_BOUNDS(columns_##codec##_##vectors, AttendParams, 128, 3) {    \
        DYNAMIC_SHARED(shared);                                          \
        attend_columns<codec, rows>(p, shared);                          \
    }                                                                    \
    EXPORT(columns_##codec##_##vectors)
#define ATTEND_COLUMNS_VECTORS(codec) ATTEND_COLUMNS(codec, 1, 8) ATTEND_COLUMNS(codec, 8, 64)
ATTEND_COLUMNS_VECTORS(F32)
ATTEND_COLUMNS_VECTORS(Bf16)
ATTEND_COLUMNS_VECTORS(F16)
ATTEND_COLUMNS_VECTORS(Int8)
