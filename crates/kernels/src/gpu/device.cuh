// What the CUDA kernels share: views of the cache, numbers of its codecs, reductions of a warp. Every kernel takes one struct by value, whose
// twin is in the cuda.rs beside it, and exports its entry points with ENTRY.
#pragma once

#ifdef HEADWISE_EMULATOR
#include "emulator.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define ENTRY(name, Params) extern "C" __global__ void name(const Params p)
#define ENTRY_BOUNDS(name, Params, threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks) name(const Params p)
#define EXPORT(name)
__device__ __forceinline__ float from_half(unsigned short bits) { return __half2float(__ushort_as_half(bits)); }
__device__ __forceinline__ unsigned short to_half(float x) { return __half_as_ushort(__float2half_rn(x)); }
__device__ __forceinline__ unsigned short to_bfloat(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
#endif

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

constexpr u32 WARP = 32;
constexpr float LOG2E = 1.4426950408889634f;
constexpr u32 ALL = 0xffffffffu;
#define INF __int_as_float(0x7f800000)

// Where the rows of a block lie: BlockLayout of view.rs.
struct Layout {
    u32 head_dim;
    u32 slots;
    u32 row_bytes;
    u32 half_bytes;
    // log2 of `slots`, or 32 where that is no power of two.
    u32 shift;
};

// The filled slots of one KV head: HeadView of view.rs, its blocks being addresses.
struct Head {
    const u64 *blocks;
    u32 len;
    u32 unused;
};

// Which part of which ragged row a CTA takes.
struct Chunk {
    u32 row;
    u32 index;
};

// The key row of a slot, or with `half` = half_bytes its value row.
__device__ __forceinline__ u8 *row_of(const Layout &layout, const Head &head, u32 slot, u32 half) {
    const u32 block = layout.shift < 32 ? slot >> layout.shift : slot / layout.slots;
    return (u8 *)head.blocks[block] + half + u64(slot - block * layout.slots) * layout.row_bytes;
}

__device__ __forceinline__ float from_bfloat(u16 bits) { return __int_as_float(u32(bits) << 16); }

// Codecs: `ALIGN` is what rows must lie at multiples of for `eight`, `scale` is what all numbers of a row are multiplied with, `one` number `at` without it, `eight` those from `at` on, a multiple of 8, in
// rows of as many whole eights as needed.
struct F32 {
    static constexpr u32 ALIGN = 16;
    static __device__ float scale(const u8 *, u32) { return 1.0f; }
    static __device__ float one(const u8 *row, u32 at) { return ((const float *)row)[at]; }
    static __device__ void eight(const u8 *row, u32 at, float (&x)[8]) {
        const float4 a = ((const float4 *)row)[at / 4], b = ((const float4 *)row)[at / 4 + 1];
        x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w, x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
    }
};

template <float (*WIDEN)(u16)>
struct Sixteen {
    static constexpr u32 ALIGN = 16;
    static __device__ float scale(const u8 *, u32) { return 1.0f; }
    static __device__ float one(const u8 *row, u32 at) { return WIDEN(((const u16 *)row)[at]); }
    static __device__ void eight(const u8 *row, u32 at, float (&x)[8]) {
        const uint4 a = ((const uint4 *)row)[at / 8];
        const u32 pairs[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            x[2 * i] = WIDEN(u16(pairs[i]));
            x[2 * i + 1] = WIDEN(u16(pairs[i] >> 16));
        }
    }
};
typedef Sixteen<from_half> F16;
typedef Sixteen<from_bfloat> Bf16;

struct Int8 {
    static constexpr u32 ALIGN = 4;
    // Behind the bytes, at whatever address that is.
    static __device__ float scale(const u8 *row, u32 dim) {
        const u8 *at = row + dim;
        if (dim % 4 == 0) return *(const float *)at;
        return __int_as_float(int(at[0] | at[1] << 8 | at[2] << 16 | u32(at[3]) << 24));
    }
    static __device__ float one(const u8 *row, u32 at) { return ((const i8 *)row)[at]; }
    static __device__ void eight(const u8 *row, u32 at, float (&x)[8]) {
        const u32 words[2] = {((const u32 *)row)[at / 4], ((const u32 *)row)[at / 4 + 1]};
#pragma unroll
        for (u32 i = 0; i < 8; i++) x[i] = i8(words[i / 4] >> (8 * (i % 4)));
    }
};

// Eight numbers of a row, those beyond its end 0; with `aligned`, rows are whole eights at multiples of their size.
template <class Codec>
__device__ __forceinline__ void eight_of(const u8 *row, u32 at, u32 dim, bool aligned, float (&x)[8]) {
    if (aligned && at < dim) {
        Codec::eight(row, at, x);
        return;
    }
#pragma unroll
    for (u32 e = 0; e < 8; e++) x[e] = at + e < dim ? Codec::one(row, at + e) : 0.0f;
}

__device__ __forceinline__ float exp2_of(float x) {
#ifdef HEADWISE_EMULATOR
    return std::exp2(x);
#else
    return exp2f(x);
#endif
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (u32 bit = WARP / 2; bit > 0; bit /= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, bit));
    return x;
}

// The same in every lane: a butterfly adds the same pairs everywhere.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (u32 bit = WARP / 2; bit > 0; bit /= 2) x += __shfl_xor_sync(ALL, x, bit);
    return x;
}
