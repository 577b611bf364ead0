// Pooling of ragged rows of scores along the slots (contract: mod.rs). One thread a slot; neighbours come from the caches. Sums are added in the order of
// the CPU, so that the bits are the same. A NaN stays one in all that it reaches: the selection refuses it.
#include "device.cuh"

struct PoolParams {
    const float *in;
    float *out;
    // Where rows begin; one more than there are rows.
    const u64 *starts;
    const Chunk *chunks;
    // Of look-ahead: what is left after 1, 2, … `reach` slots.
    const float *weights;
    // Slots on either side, or before.
    u32 reach;
    u32 chunk_slots;
};

__device__ __forceinline__ float larger(float most, float x) { return x > most || x != x ? x : most; }

// The slots of a thread, and what lies around them.
struct PoolSlots {
    const float *row;
    float *out;
    u32 len, at, end;

    __device__ explicit PoolSlots(const PoolParams &p) {
        const Chunk chunk = p.chunks[blockIdx.x];
        const u64 start = p.starts[chunk.row];
        row = p.in + start;
        out = p.out + start;
        len = u32(p.starts[chunk.row + 1] - start);
        at = chunk.index * p.chunk_slots + threadIdx.x;
        end = len - chunk.index * p.chunk_slots < p.chunk_slots ? len : (chunk.index + 1) * p.chunk_slots;
    }
    __device__ u32 first(u32 slot, u32 reach) const { return slot > reach ? slot - reach : 0; }
    __device__ u32 last(u32 slot, u32 reach) const { return len - 1 - slot > reach ? slot + reach : len - 1; }
};

ENTRY(pool_average, PoolParams) {
    PoolSlots s(p);
    for (u32 slot = s.at; slot < s.end; slot += blockDim.x) {
        float sum = 0.0f;
        for (u32 i = s.first(slot, p.reach); i <= s.last(slot, p.reach); i++) sum += s.row[i];
        s.out[slot] = sum / float(2 * p.reach + 1);
    }
}
EXPORT(pool_average)

ENTRY(pool_max, PoolParams) {
    PoolSlots s(p);
    for (u32 slot = s.at; slot < s.end; slot += blockDim.x) {
        float most = -INF;
        for (u32 i = s.first(slot, p.reach); i <= s.last(slot, p.reach); i++) most = larger(most, s.row[i]);
        s.out[slot] = most;
    }
}
EXPORT(pool_max)

ENTRY(pool_look_ahead, PoolParams) {
    PoolSlots s(p);
    for (u32 slot = s.at; slot < s.end; slot += blockDim.x) {
        float most = s.row[slot];
        for (u32 d = 1; d <= p.reach && d <= slot; d++) most = larger(most, p.weights[d - 1] * s.row[slot - d]);
        s.out[slot] = most;
    }
}
EXPORT(pool_look_ahead)
