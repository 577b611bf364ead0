// Attention of many queries over a ragged paged cache (contract: mod.rs): blocked attention (Dao et al. 2022) with products in f32 FMA, no tensor cores,
// so that it agrees with decode and with the CPU.
//
// A CTA takes 64 stacked query vectors (row, head of the group) of a KV head and one chunk of its slots, so that few rows before a long cache fill a
// GPU as well; `attend_join` puts the chunks together. Keys and values of a tile are loaded and widened once for all its vectors. Chunks and tiles
// begin at fixed slots and slots that a vector does not see add zeros, so a row's bits do not depend on the rows that it came with.
#include "attend.cuh"

template <class Codec, u32 DIMS>
struct AttendPrefillOf {
    static constexpr u32 ROWS = 8;
    // Sums of DIMS / 2 and logits of 8 · COLUMNS must both fit registers.
    static constexpr u32 COLUMNS = DIMS > 128 ? 4 : 8;
    typedef AttendTile<Codec, ROWS, COLUMNS> Tile;
    // Quads of dimensions of a thread, and slots whose values lie in shared memory at a time.
    static constexpr u32 QUADS = DIMS / 64, BATCH = 2048 / DIMS;
    static_assert(Tile::SLOTS % BATCH == 0 && BATCH % 4 == 0, "tiles are whole batches, batches whole quads");

    static __device__ __forceinline__ void run(const AttendParams &p, unsigned char *shared) {
        const Chunk chunk = p.chunks[blockIdx.x];
        Tile tile(p, p.jobs[chunk.row], shared);
        const AttendJob &job = tile.job;
        const u32 dim = p.layout.head_dim, first = p.first + blockIdx.y * Tile::VECTORS, all = p.first + p.vectors;
        const u32 last = (first + Tile::VECTORS < all ? first + Tile::VECTORS : all) - 1;
        const u32 begin = chunk.index * p.chunk_slots, seen = job.head.len - job.rows + last / job.group + 1;
        const u32 end = seen < begin + p.chunk_slots ? seen : begin + p.chunk_slots;
        if (begin >= end) return;
        tile.take(first, all, job.query, job.group);

        float sums[ROWS][4 * QUADS], top[ROWS], total[ROWS];
#pragma unroll
        for (u32 i = 0; i < ROWS; i++) {
            top[i] = -INF;
            total[i] = 0.0f;
#pragma unroll
            for (u32 d = 0; d < 4 * QUADS; d++) sums[i][d] = 0.0f;
        }
        for (u32 start = begin; start < end; start += Tile::SLOTS) {
            float x[ROWS][COLUMNS];
            tile.logits(start, x);
            // The weights lie where the keys were.
            __syncthreads();
#pragma unroll
            for (u32 i = 0; i < ROWS; i++) {
                float highest = top[i];
#pragma unroll
                for (u32 j = 0; j < COLUMNS; j++) highest = fmaxf(highest, x[i][j]);
#pragma unroll
                for (u32 bit = Tile::ACROSS / 2; bit > 0; bit /= 2)
                    highest = fmaxf(highest, __shfl_xor_sync(ALL, highest, bit));
                const float shrink = top[i] == -INF ? 0.0f : exp2_of(top[i] - highest);
                top[i] = highest;
                total[i] *= shrink;
#pragma unroll
                for (u32 j = 0; j < COLUMNS; j++) {
                    // Not for a NaN, which stays one.
                    const float weight = x[i][j] == -INF ? 0.0f : exp2_of(x[i][j] - highest);
                    total[i] += weight;
                    tile.weights[(tile.row + Tile::DOWN * i) * Tile::PITCH + tile.column + Tile::ACROSS * j] = weight;
                }
#pragma unroll
                for (u32 d = 0; d < 4 * QUADS; d++) sums[i][d] *= shrink;
            }
            for (u32 batch = 0; batch < Tile::SLOTS && start + batch < end; batch += BATCH) {
                if (batch > 0) __syncthreads();
                for (u32 i = threadIdx.x; i < BATCH * (DIMS / 8); i += Tile::THREADS) {
                    const u32 slot = i / (DIMS / 8), d = i % (DIMS / 8) * 8;
                    tile.widen(p.layout.half_bytes, start + batch + slot, d, tile.rest + slot * DIMS + d);
                }
                __syncthreads();
                add(tile, batch, sums);
            }
        }
#pragma unroll
        for (u32 i = 0; i < ROWS; i++) {
#pragma unroll
            for (u32 bit = Tile::ACROSS / 2; bit > 0; bit /= 2) total[i] += __shfl_xor_sync(ALL, total[i], bit);
            const u32 vector = first + tile.row + Tile::DOWN * i;
            if (vector >= all) continue;
            const u64 partial = u64(blockIdx.x) * p.vectors + (vector - p.first);
#pragma unroll
            for (u32 d = 0; d < 4 * QUADS; d++) {
                const u32 to = d / 4 * 64 + 4 * tile.column + d % 4;
                if (to < dim) p.sums[partial * dim + to] = sums[i][d];
            }
            if (tile.column == 0) p.tops[partial] = float2{top[i], total[i]};
        }
    }

    // Adds the values of a batch of slots, times their weights.
    static __device__ __forceinline__ void add(const Tile &tile, u32 batch, float (&sums)[ROWS][4 * QUADS]) {
#pragma unroll 1
        for (u32 slot = 0; slot < BATCH; slot += 4) {
            float4 weights[ROWS];
#pragma unroll
            for (u32 i = 0; i < ROWS; i++)
                weights[i] = *(const float4 *)(tile.weights + (tile.row + Tile::DOWN * i) * Tile::PITCH + batch + slot);
#pragma unroll
            for (u32 s = 0; s < 4; s++) {
#pragma unroll
                for (u32 quad = 0; quad < QUADS; quad++) {
                    const float4 v = *(const float4 *)(tile.rest + (slot + s) * DIMS + quad * 64 + 4 * tile.column);
#pragma unroll
                    for (u32 i = 0; i < ROWS; i++) {
                        const float4 w = weights[i];
                        const float weight = s == 0 ? w.x : s == 1 ? w.y : s == 2 ? w.z : w.w;
                        sums[i][4 * quad] = fmaf(weight, v.x, sums[i][4 * quad]);
                        sums[i][4 * quad + 1] = fmaf(weight, v.y, sums[i][4 * quad + 1]);
                        sums[i][4 * quad + 2] = fmaf(weight, v.z, sums[i][4 * quad + 2]);
                        sums[i][4 * quad + 3] = fmaf(weight, v.w, sums[i][4 * quad + 3]);
                    }
                }
            }
        }
    }
};

#define PREFILL(codec, dims)                                          \
    ENTRY_BOUNDS(prefill_##codec##_##dims, AttendParams, 128, 2) {    \
        DYNAMIC_SHARED(shared);                                       \
        AttendPrefillOf<codec, dims>::run(p, shared);                 \
    }                                                                 \
    EXPORT(prefill_##codec##_##dims)
#define PREFILL_DIMS(codec) PREFILL(codec, 64) PREFILL(codec, 128) PREFILL(codec, 256)
PREFILL_DIMS(F32)
PREFILL_DIMS(Bf16)
PREFILL_DIMS(F16)
PREFILL_DIMS(Int8)
