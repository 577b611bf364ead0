// The k highest scores of ragged rows, by radix selection (contract: mod.rs). A score and its slot make one number of 64 bits, the better the smaller;
// eight passes over its digits find the last one that is kept. What then is still equal lies in one slot of several heads, and goes to the lower ones. All
// counts are whole numbers, so the order in which they are added does not show.
#include "device.cuh"

constexpr u32 DIGITS = 256;

struct TopkState {
    // Digits of the last kept key that are known; all others are ones once `whole` is set.
    u64 last;
    // How many keys with these digits are kept.
    u32 remaining;
    // Every key up to `last` is kept, so nothing is left to break.
    u32 whole;
    // Index of the first NaN, or all ones.
    u32 nan;
    u32 unused;
};

struct TopkParams {
    const float *scores;
    const u64 *starts;
    const Chunk *chunks;
    TopkState *state;
    // `[8][DIGITS]`, zero at first.
    u32 *histograms;
    // Whether a head keeps its slot among those that are equal in score and slot. `[rows]`
    u32 *tied;
    // Kept slots of a chunk, then where they begin in `kept`. `[chunks]`
    u32 *offsets;
    // Kept slots of a row, zero at first. `[rows]`
    u32 *counts;
    // The kept slots, row after row, ascending.
    u32 *kept;
    u32 rows;
    u32 chunk_count;
    u32 chunk_slots;
    u32 pass;
};

__device__ __forceinline__ u64 topk_key(float score, u32 slot) {
    // Both zeros are one.
    const u32 bits = __float_as_uint(score == 0.0f ? 0.0f : score);
    const u32 ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return u64(~ascending) << 32 | slot;
}

// The slots of a chunk.
struct TopkSlots {
    const float *row;
    u64 start;
    u32 head, at, end;

    __device__ explicit TopkSlots(const TopkParams &p) {
        const Chunk chunk = p.chunks[blockIdx.x];
        start = p.starts[chunk.row];
        row = p.scores + start;
        head = chunk.row;
        at = chunk.index * p.chunk_slots;
        const u32 len = u32(p.starts[head + 1] - start);
        end = len - at < p.chunk_slots ? len : at + p.chunk_slots;
    }
};

__device__ __forceinline__ bool topk_keeps(const TopkParams &p, const TopkState &state, u32 head, float score, u32 slot) {
    const u64 key = topk_key(score, slot);
    return key < state.last || (key == state.last && (state.whole || p.tied[head]));
}

// The sum of what the threads before this one of the CTA bring, and in `total` that of all. `[threads + 1]` of shared memory.
__device__ __forceinline__ u32 sum_before(u32 mine, u32 *shared, u32 &total) {
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (u32 step = 1; step < blockDim.x; step *= 2) {
        const u32 other = threadIdx.x >= step ? shared[threadIdx.x - step] : 0;
        __syncthreads();
        shared[threadIdx.x] += other;
        __syncthreads();
    }
    const u32 before = shared[threadIdx.x] - mine;
    total = shared[blockDim.x - 1];
    __syncthreads();
    return before;
}

ENTRY(topk_histogram, TopkParams) {
    DYNAMIC_SHARED(shared);
    const TopkState state = *p.state;
    if (state.whole) return;
    u32 *bins = (u32 *)shared;
    for (u32 i = threadIdx.x; i < DIGITS; i += blockDim.x) bins[i] = 0;
    __syncthreads();
    const TopkSlots s(p);
    const u32 shift = 56 - 8 * p.pass;
    for (u32 slot = s.at + threadIdx.x; slot < s.end; slot += blockDim.x) {
        const float score = s.row[slot];
        if (p.pass == 0 && score != score) atomicMin(&p.state->nan, u32(s.start) + slot);
        const u64 key = topk_key(score, slot);
        // In two steps, for the first pass knows nothing and would shift by 64.
        if (((key ^ state.last) >> shift) >> 8 == 0) atomicAdd(&bins[key >> shift & (DIGITS - 1)], 1u);
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < DIGITS; i += blockDim.x)
        if (bins[i]) atomicAdd(&p.histograms[p.pass * DIGITS + i], bins[i]);
}
EXPORT(topk_histogram)

// One CTA, one thread a digit.
ENTRY(topk_digit, TopkParams) {
    DYNAMIC_SHARED(shared);
    const TopkState state = *p.state;
    if (state.whole) return;
    const u32 count = p.histograms[p.pass * DIGITS + threadIdx.x];
    u32 total;
    const u32 before = sum_before(count, (u32 *)shared, total);
    if (before < state.remaining && before + count >= state.remaining) {
        const u32 shift = 56 - 8 * p.pass, remaining = state.remaining - before;
        const bool whole = remaining == count;
        p.state->last = state.last | u64(threadIdx.x) << shift | (whole ? (u64(1) << shift) - 1 : 0);
        p.state->remaining = remaining;
        p.state->whole = whole;
    }
}
EXPORT(topk_digit)

// One CTA: the lower heads keep the slot that several have.
ENTRY(topk_tied, TopkParams) {
    DYNAMIC_SHARED(shared);
    const TopkState state = *p.state;
    if (state.whole) return;
    const u32 slot = u32(state.last);
    u32 seen = 0;
    for (u32 first = 0; first < p.rows; first += blockDim.x) {
        const u32 head = first + threadIdx.x;
        bool equal = false;
        if (head < p.rows && slot < p.starts[head + 1] - p.starts[head])
            equal = topk_key(p.scores[p.starts[head] + slot], slot) == state.last;
        u32 total;
        const u32 before = seen + sum_before(equal, (u32 *)shared, total);
        if (head < p.rows) p.tied[head] = equal && before < state.remaining;
        seen += total;
    }
}
EXPORT(topk_tied)

ENTRY(topk_count, TopkParams) {
    DYNAMIC_SHARED(shared);
    const TopkState state = *p.state;
    const TopkSlots s(p);
    u32 count = 0, total;
    for (u32 slot = s.at + threadIdx.x; slot < s.end; slot += blockDim.x) count += topk_keeps(p, state, s.head, s.row[slot], slot);
    sum_before(count, (u32 *)shared, total);
    if (threadIdx.x == 0) {
        p.offsets[blockIdx.x] = total;
        atomicAdd(&p.counts[s.head], total);
    }
}
EXPORT(topk_count)

// One CTA: counts of chunks to where they begin.
ENTRY(topk_offsets, TopkParams) {
    DYNAMIC_SHARED(shared);
    u32 seen = 0;
    for (u32 first = 0; first < p.chunk_count; first += blockDim.x) {
        const u32 chunk = first + threadIdx.x;
        u32 total;
        const u32 before = sum_before(chunk < p.chunk_count ? p.offsets[chunk] : 0, (u32 *)shared, total);
        if (chunk < p.chunk_count) p.offsets[chunk] = seen + before;
        seen += total;
    }
}
EXPORT(topk_offsets)

ENTRY(topk_write, TopkParams) {
    DYNAMIC_SHARED(shared);
    const TopkState state = *p.state;
    const TopkSlots s(p);
    u32 *kept = p.kept + p.offsets[blockIdx.x];
    for (u32 first = s.at; first < s.end; first += blockDim.x) {
        const u32 slot = first + threadIdx.x;
        const bool keeps = slot < s.end && topk_keeps(p, state, s.head, s.row[slot], slot);
        u32 total;
        const u32 before = sum_before(keeps, (u32 *)shared, total);
        if (keeps) kept[before] = slot;
        kept += total;
    }
}
EXPORT(topk_write)
