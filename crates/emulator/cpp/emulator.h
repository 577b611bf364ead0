// CUDA kernels on a CPU: one fiber a thread, the blocks of a grid one after another, the threads of a block in an order that changes at every
// barrier, some warps ahead of others by as much as barriers allow. Shared memory begins as NaN, and a thread that ends while others of its block or
// warp wait for it is an error. What it does not see: races inside a warp between two barriers, alignment, and how fast anything is.
//
// Only what the kernels use is here. Semantics: CUDA C++ programming guide, 10.6 (synchronization) and 10.22 (warp shuffles).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define __device__
#define __global__
#define __forceinline__ inline
#define __restrict__
#define DYNAMIC_SHARED(name) unsigned char *const name = emulator::shared()
#define ENTRY(name, Params) static void name(const Params p)
#define ENTRY_BOUNDS(name, Params, threads, blocks) static void name(const Params p)
#define EXPORT(name) static const emulator::Entry entry_##name(#name, name);

struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};

namespace emulator {
// The entry points of all files, by name.
struct Entry {
    const char *name;
    void (*call)(const Entry &entry, const void *params);
    void (*kernel)();
    Entry *next;

    template <class Params>
    Entry(const char *name, void (*kernel)(Params)) : name(name), kernel((void (*)())kernel) {
        call = [](const Entry &entry, const void *params) {
            // A copy for each thread, as on the device.
            typename std::remove_const<Params>::type copy;
            memcpy((void *)&copy, params, sizeof copy);
            ((void (*)(Params))entry.kernel)(copy);
        };
        add();
    }
    void add();
};

struct Thread {
    uint3 thread, block, block_dim, grid_dim;
};
const Thread &thread();
unsigned char *shared();
void sync_block();
// Waits for all lanes of the warp, then gives what `lane` brought.
uint64_t exchange(uint64_t mine, unsigned lane);
// As exchange, but gives what all lanes brought, [32].
const uint64_t *gather(uint64_t mine);
}  // namespace emulator

#define threadIdx (emulator::thread().thread)
#define blockIdx (emulator::thread().block)
#define blockDim (emulator::thread().block_dim)
#define gridDim (emulator::thread().grid_dim)

inline void __syncthreads() { emulator::sync_block(); }
inline void __syncwarp(unsigned = ~0u) { emulator::exchange(0, 0); }

template <class T>
T __shfl_sync(unsigned, T x, int lane) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most eight bytes");
    uint64_t bits = 0;
    memcpy(&bits, &x, sizeof x);
    bits = emulator::exchange(bits, unsigned(lane) % 32);
    memcpy(&x, &bits, sizeof x);
    return x;
}
template <class T>
T __shfl_xor_sync(unsigned mask, T x, int bit) {
    return __shfl_sync(mask, x, int(threadIdx.x % 32) ^ bit);
}
// Lanes below the distance keep what they have.
template <class T>
T __shfl_up_sync(unsigned mask, T x, unsigned distance) {
    const unsigned lane = threadIdx.x % 32;
    return __shfl_sync(mask, x, int(lane < distance ? lane : lane - distance));
}
inline unsigned __ballot_sync(unsigned, int predicate) {
    const uint64_t *all = emulator::gather(predicate != 0);
    unsigned ballot = 0;
    for (unsigned lane = 0; lane < 32; lane++) ballot |= unsigned(all[lane]) << lane;
    return ballot;
}

inline float __int_as_float(int bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof x);
    return bits;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }

// One OS thread runs everything.
template <class T>
T atomicAdd(T *at, T x) {
    const T before = *at;
    *at = before + x;
    return before;
}
template <class T>
T atomicMin(T *at, T x) {
    const T before = *at;
    *at = x < before ? x : before;
    return before;
}

inline float from_half(unsigned short bits) {
    const unsigned sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, mantissa = bits & 1023;
    if (exponent == 31) return __int_as_float(int(sign | 0x7f800000u | mantissa << 13));
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * float(mantissa) * 0x1p-24f;
    return __int_as_float(int(sign | (exponent + 112) << 23 | mantissa << 13));
}
inline unsigned short to_half(float x) {
    const unsigned sign = __float_as_uint(x) >> 16 & 0x8000u;
    const float size = std::fabs(x);
    if (size != size) return (unsigned short)(sign | 0x7e00u);
    if (size == 0.0f) return (unsigned short)sign;
    // 65520 is where rounding to nearest leaves the finite numbers.
    if (size >= 65520.0f) return (unsigned short)(sign | 0x7c00u);
    int exponent;
    std::frexp(size, &exponent);
    const int step = (exponent < -13 ? -13 : exponent) - 11;
    const float steps = std::nearbyint(std::ldexp(size, -step));
    // Steps of the smallest exponent count from 0, of the others from 1024: an overflow of the mantissa carries into the exponent by itself.
    return (unsigned short)(sign | (exponent < -13 ? unsigned(steps) : unsigned((exponent + 13) * 1024) + unsigned(steps)));
}
inline unsigned short to_bfloat(float x) {
    const unsigned bits = __float_as_uint(x);
    if (x != x) return (unsigned short)(bits >> 16 | 0x40u);
    return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
