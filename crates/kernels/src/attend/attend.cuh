// What the kernels of attention share (contract: mod.rs): their jobs, and the logits of many query vectors for the slots of a tile.
#pragma once

#include "device.cuh"

// One KV head of one session.
struct AttendJob {
    Head head;
    // One logit a slot, or null.
    const float *bias;
    // Where its columns begin, `[group][len]`.
    u64 columns;
    // Index of the first query vector of the group in the first row, in vectors of head_dim; the next row lies `stride` vectors further.
    u32 query;
    u32 stride;
    u32 rows;
    u32 group;
    // The first of its chunks in the list of all.
    u32 first_chunk;
    u32 unused;
};

struct AttendParams {
    Layout layout;
    float scale;
    const AttendJob *jobs;
    const Chunk *chunks;
    const float *q;
    // Of chunks: `[chunk][vectors][head_dim]`, not divided yet, and maximum (of base 2) and denominator of each.
    float *sums;
    float2 *tops;
    // Of whole rows: maximum and denominator. `[rows][query heads]`
    float2 *totals;
    float *out;
    float *columns;
    // What the weights of each row are multiplied with, or null.
    const float *factors;
    u32 chunk_slots;
    // The query vectors `[row][group]` of each KV head that a launch takes.
    u32 first;
    u32 vectors;
    // Query heads of a KV head whose columns a CTA makes, and how.
    u32 heads;
    u32 reduce;
};

// 8 · ROWS query vectors and 16 · COLUMNS slots of a KV head on 128 threads, 8 × 16 of them: each has every eighth vector and every sixteenth
// slot, ROWS × COLUMNS products for ROWS + COLUMNS loads from shared memory, in f32 FMA. With eight of both it is the multiplications that take the time.
template <class Codec, u32 ROWS, u32 COLUMNS>
struct AttendTile {
    static constexpr u32 THREADS = 128, ACROSS = 16, DOWN = THREADS / ACROSS;
    static constexpr u32 VECTORS = DOWN * ROWS, SLOTS = ACROSS * COLUMNS;
    // Numbers of a vector that are multiplied at a time. Four more between rows: those that lie side by side begin in different groups of banks.
    static constexpr u32 PIECE = 32, PIECE_PITCH = PIECE + 4, PITCH = SLOTS + 4;

    const AttendParams &p;
    const AttendJob job;
    const bool aligned;
    // Of this thread.
    const u32 row, column;
    // Which vector of `q` each is, and how many slots it sees: none where there is no vector.
    u32 *at, *sees;
    // Pieces, `[vector][PIECE_PITCH]` and `[slot][PIECE_PITCH]`. Weights (`[vector][PITCH]`) and what comes after them lie in the same place.
    float *queries, *keys, *weights, *rest;

    __device__ __forceinline__ AttendTile(const AttendParams &p, const AttendJob &job, unsigned char *shared)
        : p(p), job(job), aligned(p.layout.head_dim % 8 == 0 && p.layout.row_bytes % Codec::ALIGN == 0),
          row(threadIdx.x / ACROSS), column(threadIdx.x % ACROSS) {
        at = (u32 *)shared;
        sees = at + VECTORS;
        queries = (float *)(sees + VECTORS);
        keys = queries + VECTORS * PIECE_PITCH;
        weights = queries;
        rest = weights + VECTORS * PITCH;
    }

    // Takes the vectors from `first` on, of those before `end`, which are `[row][heads]` with query head `query` first. A barrier must follow.
    __device__ __forceinline__ void take(u32 first, u32 end, u32 query, u32 heads) {
        for (u32 i = threadIdx.x; i < VECTORS; i += THREADS) {
            const u32 vector = first + i, row = vector / heads;
            at[i] = query + row * job.stride + vector % heads;
            sees[i] = vector < end ? job.head.len - job.rows + row + 1 : 0;
        }
    }

    // Eight numbers of a key or, with `half` = half_bytes, of a value; zeros where there is none.
    __device__ __forceinline__ void widen(u32 half, u32 slot, u32 d, float *to) const {
        float x[8], scale = 0.0f;
        if (slot < job.head.len) {
            const u8 *from = row_of(p.layout, job.head, slot, half);
            eight_of<Codec>(from, d, p.layout.head_dim, aligned, x);
            scale = Codec::scale(from, p.layout.head_dim);
        } else {
#pragma unroll
            for (u32 e = 0; e < 8; e++) x[e] = 0.0f;
        }
        ((float4 *)to)[0] = float4{x[0] * scale, x[1] * scale, x[2] * scale, x[3] * scale};
        ((float4 *)to)[1] = float4{x[4] * scale, x[5] * scale, x[6] * scale, x[7] * scale};
    }

    // Four numbers of a query, scaled for a softmax of base 2.
    __device__ __forceinline__ float4 query(u32 vector, u32 d) const {
        const u32 dim = p.layout.head_dim;
        const float *from = p.q + u64(at[vector]) * dim + d, scale = p.scale * LOG2E;
        float4 x = {0.0f, 0.0f, 0.0f, 0.0f};
        if (sees[vector] == 0 || d >= dim) return x;
        if (dim % 4 == 0) {
            x = *(const float4 *)from;
        } else {
            x.x = from[0];
            if (d + 1 < dim) x.y = from[1];
            if (d + 2 < dim) x.z = from[2];
            if (d + 3 < dim) x.w = from[3];
        }
        return float4{x.x * scale, x.y * scale, x.z * scale, x.w * scale};
    }

    // Logits (of base 2) for the slots from `start` on; those of slots that a vector does not see are -∞. Begins with a barrier and ends without one:
    // others may still read the pieces.
    __device__ __forceinline__ void logits(u32 start, float (&x)[ROWS][COLUMNS]) const {
        const u32 dim = p.layout.head_dim;
#pragma unroll
        for (u32 i = 0; i < ROWS; i++)
#pragma unroll
            for (u32 j = 0; j < COLUMNS; j++) x[i][j] = 0.0f;
        for (u32 piece = 0; piece < dim; piece += PIECE) {
            __syncthreads();
            for (u32 i = threadIdx.x; i < SLOTS * (PIECE / 8); i += THREADS) {
                const u32 slot = i / (PIECE / 8), d = i % (PIECE / 8) * 8;
                widen(0, start + slot, piece + d, keys + slot * PIECE_PITCH + d);
            }
            for (u32 i = threadIdx.x; i < VECTORS * (PIECE / 4); i += THREADS) {
                const u32 vector = i / (PIECE / 4), d = i % (PIECE / 4) * 4;
                *(float4 *)(queries + vector * PIECE_PITCH + d) = query(vector, piece + d);
            }
            __syncthreads();
            const u32 width = dim - piece < PIECE ? dim - piece : PIECE;
#pragma unroll 2
            for (u32 d = 0; d < width; d += 4) {
                float4 q[ROWS];
#pragma unroll
                for (u32 i = 0; i < ROWS; i++) q[i] = *(const float4 *)(queries + (row + DOWN * i) * PIECE_PITCH + d);
#pragma unroll
                for (u32 j = 0; j < COLUMNS; j++) {
                    const float4 k = *(const float4 *)(keys + (column + ACROSS * j) * PIECE_PITCH + d);
#pragma unroll
                    for (u32 i = 0; i < ROWS; i++) {
                        x[i][j] = fmaf(q[i].x, k.x, x[i][j]);
                        x[i][j] = fmaf(q[i].y, k.y, x[i][j]);
                        x[i][j] = fmaf(q[i].z, k.z, x[i][j]);
                        x[i][j] = fmaf(q[i].w, k.w, x[i][j]);
                    }
                }
            }
        }
#pragma unroll
        for (u32 j = 0; j < COLUMNS; j++) {
            const u32 slot = start + column + ACROSS * j;
            const float bias = job.bias && slot < job.head.len ? job.bias[slot] * LOG2E : 0.0f;
#pragma unroll
            for (u32 i = 0; i < ROWS; i++) x[i][j] = slot < sees[row + DOWN * i] ? x[i][j] + bias : -INF;
        }
    }
};
