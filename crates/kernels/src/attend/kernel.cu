// Decode attention over a ragged paged cache (contract: mod.rs): Flash-Decoding (Dao et al. 2023) with chunks of a fixed size, so that a head's result
// depends neither on the other heads of the launch nor on how many chunks run at once.
//
// A CTA takes one chunk of one KV head and up to QUERIES of its query vectors, so that each row of the cache is loaded once for the whole group. A warp
// takes tiles of 32 slots in turn. LANES lanes share a row, eight numbers each; their partial dot products are summed by halving: in each step a lane
// sends the half that it does not keep, so n sums over 16 lanes take 15/16 n shuffles in place of 4 n.
#include "attend.cuh"

constexpr u32 WARPS = 4, TILE = 32, PER = 8;

template <class Codec, u32 LANES, u32 QUERIES>
struct AttendChunkOf {
    static constexpr u32 SUBS = WARP / LANES;
    // Rows of a lane whose sums are halved together.
    static constexpr u32 STEPS = QUERIES * 8 >= LANES ? 8 : LANES / QUERIES;
    static constexpr u32 ROUND = STEPS * SUBS, ROUNDS = TILE / ROUND;
    static constexpr u32 VALUES = STEPS * QUERIES, LEFT = VALUES / LANES;
    static_assert(ROUND <= TILE && TILE % ROUND == 0 && VALUES % LANES == 0, "tiles are whole rounds");

    static __device__ void run(const AttendParams &p, unsigned char *shared) {
        const bool aligned = p.layout.head_dim % PER == 0 && p.layout.row_bytes % Codec::ALIGN == 0;
        const Chunk chunk = p.chunks[blockIdx.x];
        const AttendJob job = p.jobs[chunk.row];
        const u32 dim = p.layout.head_dim, vectors = p.vectors, first_vector = blockIdx.y * QUERIES;
        const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, part = lane % LANES, sub = lane / LANES;
        const u32 start = chunk.index * p.chunk_slots, rest = job.head.len - start;
        const u32 end = start + (rest < p.chunk_slots ? rest : p.chunk_slots);

        float q[QUERIES][PER], sums[QUERIES][PER], top[QUERIES], total[QUERIES];
        u32 sees[QUERIES];
#pragma unroll
        for (u32 m = 0; m < QUERIES; m++) {
            const u32 vector = p.first + first_vector + m, row = vector / job.group;
            const float *from = p.q + u64(job.query + row * job.stride + vector % job.group) * dim;
            const bool there = first_vector + m < vectors;
            sees[m] = there ? job.head.len - job.rows + row + 1 : 0;
            top[m] = -INF;
            total[m] = 0.0f;
#pragma unroll
            for (u32 e = 0; e < PER; e++) {
                q[m][e] = there && part * PER + e < dim ? from[part * PER + e] * (p.scale * LOG2E) : 0.0f;
                sums[m][e] = 0.0f;
            }
        }
        // Logits, then weights of a tile, `[row][query]`.
        float *weights = (float *)shared + warp * TILE * QUERIES;
        for (u32 tile = start + warp * TILE; tile < end; tile += WARPS * TILE) {
#pragma unroll
            for (u32 round = 0; round < ROUNDS; round++) {
                float values[VALUES];
#pragma unroll
                for (u32 step = 0; step < STEPS; step++) {
                    const u32 slot = tile + round * ROUND + step * SUBS + sub;
                    float key[PER];
                    float scale = 0.0f;
                    if (slot < end) {
                        const u8 *row = row_of(p.layout, job.head, slot, 0);
                        eight_of<Codec>(row, part * PER, dim, aligned, key);
                        scale = Codec::scale(row, dim);
                    } else {
#pragma unroll
                        for (u32 e = 0; e < PER; e++) key[e] = 0.0f;
                    }
#pragma unroll
                    for (u32 m = 0; m < QUERIES; m++) {
                        float dot = 0.0f;
#pragma unroll
                        for (u32 e = 0; e < PER; e++) dot = fmaf(q[m][e], key[e], dot);
                        values[m * STEPS + step] = dot * scale;
                    }
                }
                // Lane `part` is left with the sums of values part · LEFT …
#pragma unroll
                for (u32 bit = LANES / 2, half = VALUES / 2; bit > 0; bit /= 2, half /= 2) {
                    const bool upper = part & bit;
#pragma unroll
                    for (u32 i = 0; i < half; i++) {
                        const float sent = upper ? values[i] : values[i + half];
                        const float kept = upper ? values[i + half] : values[i];
                        values[i] = kept + __shfl_xor_sync(ALL, sent, bit);
                    }
                }
#pragma unroll
                for (u32 i = 0; i < LEFT; i++) {
                    const u32 value = part * LEFT + i, m = value / STEPS, step = value % STEPS;
                    weights[(round * ROUND + step * SUBS + sub) * QUERIES + m] = values[i];
                }
            }
            __syncwarp();
            // Lane = slot: online softmax.
            const u32 slot = tile + lane;
            const float bias = job.bias && slot < end ? job.bias[slot] * LOG2E : 0.0f;
            float shrink[QUERIES];
#pragma unroll
            for (u32 m = 0; m < QUERIES; m++) {
                const bool seen = slot < end && slot < sees[m];
                const float logit = seen ? weights[lane * QUERIES + m] + bias : -INF;
                const float highest = fmaxf(top[m], warp_max(logit));
                // Not for a NaN, which stays one.
                const float weight = logit == -INF ? 0.0f : exp2_of(logit - highest);
                shrink[m] = top[m] == -INF ? 0.0f : exp2_of(top[m] - highest);
                total[m] = total[m] * shrink[m] + weight;
                top[m] = highest;
                weights[lane * QUERIES + m] = weight;
            }
            __syncwarp();
#pragma unroll
            for (u32 m = 0; m < QUERIES; m++)
#pragma unroll
                for (u32 e = 0; e < PER; e++) sums[m][e] *= shrink[m];
#pragma unroll 4
            for (u32 step = 0; step < TILE / SUBS; step++) {
                const u32 row = step * SUBS + sub;
                if (tile + row >= end) continue;
                const u8 *from = row_of(p.layout, job.head, tile + row, p.layout.half_bytes);
                float value[PER];
                eight_of<Codec>(from, part * PER, dim, aligned, value);
                const float scale = Codec::scale(from, dim);
#pragma unroll
                for (u32 m = 0; m < QUERIES; m++) {
                    const float weight = weights[row * QUERIES + m] * scale;
#pragma unroll
                    for (u32 e = 0; e < PER; e++) sums[m][e] = fmaf(weight, value[e], sums[m][e]);
                }
            }
            __syncwarp();
        }
        // The lanes of a column, then the warps, each in a fixed order.
        __syncthreads();
        float *warp_sums = (float *)shared, *warp_tops = warp_sums + WARPS * QUERIES * dim;
#pragma unroll
        for (u32 m = 0; m < QUERIES; m++) {
#pragma unroll
            for (u32 e = 0; e < PER; e++) {
                float sum = sums[m][e];
#pragma unroll
                for (u32 bit = LANES; bit < WARP; bit *= 2) sum += __shfl_xor_sync(ALL, sum, bit);
                if (sub == 0 && part * PER + e < dim) warp_sums[(warp * QUERIES + m) * dim + part * PER + e] = sum;
            }
            const float all = warp_sum(total[m]);
            if (lane == 0) {
                warp_tops[(warp * QUERIES + m) * 2] = top[m];
                warp_tops[(warp * QUERIES + m) * 2 + 1] = all;
            }
        }
        __syncthreads();
        for (u32 i = threadIdx.x; i < QUERIES * dim; i += WARPS * WARP) {
            const u32 m = i / dim, d = i % dim;
            if (first_vector + m >= vectors) break;
            float highest = -INF, sum = 0.0f, all = 0.0f;
            for (u32 w = 0; w < WARPS; w++) highest = fmaxf(highest, warp_tops[(w * QUERIES + m) * 2]);
            for (u32 w = 0; w < WARPS; w++) {
                const float top = warp_tops[(w * QUERIES + m) * 2], grow = top == -INF ? 1.0f : exp2_of(top - highest);
                sum += warp_sums[(w * QUERIES + m) * dim + d] * grow;
                all += warp_tops[(w * QUERIES + m) * 2 + 1] * grow;
            }
            const u64 partial = u64(blockIdx.x) * vectors + first_vector + m;
            p.sums[partial * dim + d] = sum;
            if (d == 0) {
                p.tops[partial].x = highest;
                p.tops[partial].y = all;
            }
        }
    }
};

// Joins the chunks that a query vector sees, of this kernel or of prefill.cu. One CTA a (vector, job), one thread a number of the row.
ENTRY(attend_join, AttendParams) {
    const AttendJob job = p.jobs[blockIdx.y];
    const u32 dim = p.layout.head_dim, vector = p.first + blockIdx.x, row = vector / job.group;
    const u32 chunks = (job.head.len - job.rows + row) / p.chunk_slots + 1;
    const u64 first = u64(job.first_chunk) * p.vectors + blockIdx.x, index = job.query + row * job.stride + vector % job.group;
    float highest = -INF, all = 0.0f;
    for (u32 chunk = 0; chunk < chunks; chunk++) highest = fmaxf(highest, p.tops[first + u64(chunk) * p.vectors].x);
    for (u32 d = threadIdx.x; d < dim; d += blockDim.x) {
        float sum = 0.0f;
        all = 0.0f;
        for (u32 chunk = 0; chunk < chunks; chunk++) {
            const u64 partial = first + u64(chunk) * p.vectors;
            const float top = p.tops[partial].x, grow = top == -INF ? 1.0f : exp2_of(top - highest);
            sum += p.sums[partial * dim + d] * grow;
            all += p.tops[partial].y * grow;
        }
        p.out[index * dim + d] = all == 0.0f ? 0.0f : sum / all;
    }
    if (threadIdx.x == 0) p.totals[index] = float2{highest, all};
}
EXPORT(attend_join)

#define ATTEND(codec, lanes, queries)                                                                              \
    ENTRY_BOUNDS(attend_##codec##_##lanes##_##queries, AttendParams, 128, 2) {                                     \
        DYNAMIC_SHARED(shared);                                                                                    \
        AttendChunkOf<codec, lanes, queries>::run(p, shared);                                                      \
    }                                                                                                              \
    EXPORT(attend_##codec##_##lanes##_##queries)
#define ATTEND_QUERIES(codec, lanes) ATTEND(codec, lanes, 1) ATTEND(codec, lanes, 4) ATTEND(codec, lanes, 8)
#define ATTEND_LANES(codec) ATTEND_QUERIES(codec, 8) ATTEND_QUERIES(codec, 16) ATTEND_QUERIES(codec, 32)
ATTEND_LANES(F32)
ATTEND_LANES(Bf16)
ATTEND_LANES(F16)
ATTEND_LANES(Int8)
