// Writes new keys and values into the last slots of heads, in the codec of the cache (contract: mod.rs). One warp a row; the same bits as on the CPU.
#include "device.cuh"

struct EncodeParams {
    Layout layout;
    // With the new slots in their lengths.
    const Head *heads;
    // `[rows][kv_heads][head_dim]`
    const float *keys;
    const float *values;
    u32 rows;
    u32 kv_heads;
};

// What a lane calls with the row that it writes with its warp.
template <class WRITE>
__device__ __forceinline__ void encode_rows(const EncodeParams &p, WRITE write) {
    const u32 lane = threadIdx.x % WARP;
    const u64 index = u64(blockIdx.x) * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (index >= u64(p.rows) * p.kv_heads) return;
    const Head head = p.heads[index % p.kv_heads];
    const u32 slot = head.len - p.rows + u32(index / p.kv_heads);
    const float *from = (blockIdx.y ? p.values : p.keys) + index * p.layout.head_dim;
    write(from, row_of(p.layout, head, slot, blockIdx.y * p.layout.half_bytes), p.layout.head_dim, lane);
}

struct WriteF32 {
    __device__ void operator()(const float *from, u8 *to, u32 dim, u32 lane) const {
        for (u32 i = lane; i < dim; i += WARP) ((float *)to)[i] = from[i];
    }
};

template <u16 (*NARROW)(float)>
struct WriteSixteen {
    __device__ void operator()(const float *from, u8 *to, u32 dim, u32 lane) const {
        for (u32 i = lane; i < dim; i += WARP) ((u16 *)to)[i] = NARROW(from[i]);
    }
};

struct WriteInt8 {
    __device__ void operator()(const float *from, u8 *to, u32 dim, u32 lane) const {
        // Without their sign, the bits of floats are ordered as the floats are, then infinity, then NaN.
        u32 largest = 0;
        for (u32 i = lane; i < dim; i += WARP) {
            const u32 bits = __float_as_uint(from[i]) & 0x7fffffffu;
            largest = bits > largest ? bits : largest;
        }
#pragma unroll
        for (u32 bit = WARP / 2; bit > 0; bit /= 2) {
            const u32 other = __shfl_xor_sync(ALL, largest, bit);
            largest = other > largest ? other : largest;
        }
        float scale = __int_as_float(0x7fc00000);
        if (largest < 0x7f800000u) {
            const float most = __int_as_float(int(largest));
            scale = most / 127.0f;
            // Rounded down, it could ask for 128 where it is subnormal. The products are exact.
            if (double(scale) * 127.0 < double(most)) scale = __int_as_float(__float_as_uint(scale) + 1);
        }
        for (u32 i = lane; i < dim; i += WARP) to[i] = scale > 0.0f ? u8(__float_as_uint(from[i] / scale + 12582912.0f)) : 0; // 1.5 · 2^23
        if (lane < 4) to[dim + lane] = u8(__float_as_uint(scale) >> (8 * lane));
    }
};

ENTRY(encode_F32, EncodeParams) { encode_rows(p, WriteF32()); }
EXPORT(encode_F32)
ENTRY(encode_Bf16, EncodeParams) { encode_rows(p, WriteSixteen<to_bfloat>()); }
EXPORT(encode_Bf16)
ENTRY(encode_F16, EncodeParams) { encode_rows(p, WriteSixteen<to_half>()); }
EXPORT(encode_F16)
ENTRY(encode_Int8, EncodeParams) { encode_rows(p, WriteInt8()); }
EXPORT(encode_Int8)
