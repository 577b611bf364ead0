// Moves the surviving rows of heads forward in place (contract: mod.rs). One CTA takes the key rows or the value rows of a head, piece after piece: all
// its threads read, wait, and write. No later source lies before a target of an earlier piece, for sources ascend and none lies before its target.
#include "device.cuh"

constexpr u32 PIECES = 8;

struct CompactJob {
    Head head;
    // Survivors, ascending. `[count]`
    const u32 *keep;
    u32 count;
    u32 unused;
};

struct CompactParams {
    Layout layout;
    const CompactJob *jobs;
};

// As many bytes as UNIT at a time.
template <class UNIT>
__device__ __forceinline__ void compact(const CompactParams &p) {
    const CompactJob job = p.jobs[blockIdx.x];
    const u32 half = blockIdx.y * p.layout.half_bytes, units = p.layout.row_bytes / sizeof(UNIT);
    const u64 all = u64(job.count) * units;
    for (u64 first = 0; first < all; first += u64(blockDim.x) * PIECES) {
        UNIT pieces[PIECES];
#pragma unroll
        for (u32 i = 0; i < PIECES; i++) {
            const u64 unit = first + i * blockDim.x + threadIdx.x;
            if (unit < all) pieces[i] = ((const UNIT *)row_of(p.layout, job.head, job.keep[unit / units], half))[unit % units];
        }
        __syncthreads();
#pragma unroll
        for (u32 i = 0; i < PIECES; i++) {
            const u64 unit = first + i * blockDim.x + threadIdx.x;
            if (unit < all) ((UNIT *)row_of(p.layout, job.head, u32(unit / units), half))[unit % units] = pieces[i];
        }
        __syncthreads();
    }
}

ENTRY(compact_1, CompactParams) { compact<u8>(p); }
EXPORT(compact_1)
ENTRY(compact_2, CompactParams) { compact<u16>(p); }
EXPORT(compact_2)
ENTRY(compact_4, CompactParams) { compact<u32>(p); }
EXPORT(compact_4)
ENTRY(compact_16, CompactParams) { compact<uint4>(p); }
EXPORT(compact_16)
