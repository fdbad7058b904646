// Products of bfloat16 matrices by a warpgroup, four warps that follow each other from a multiple of four
// (PTX ISA: wgmma; compute capability 9.0 only, compiled for sm_90a), and copies to shared memory that run
// beside other work. For a CPU tests/support/cuda_on_cpu.h has the same functions.
//
// Operands lie in shared memory as panels: lines of 64 values, 128 bytes, aligned to 1024 bytes, in which the
// pieces of 16 bytes of line l are in places exchanged by exclusive or with l % 8 (swizzle of 128 bytes); or
// lines of 16 values, 32 bytes, aligned to 256 bytes, whose two pieces are exchanged where l % 8 >= 4
// (swizzle of 32 bytes). Lines longer than that lie in several panels, one after the other. Sums [64, N] lie
// in registers, [N / 8][4] of a lane: warp w of the group has lines 16 w to 16 w + 15, lane l of these l / 4
// (two values) and l / 4 + 8, columns 2 (l % 4) and the next of each 8. A first operand in registers [64,
// 16]: the same lines and columns, two neighbours in each, then those 8 columns further.
#pragma once

#include "worker/kernels/numbers.cuh"

namespace cosub::kernels {

/// For loops whose arrays must come to lie in registers, and for those whose code must stay small.
#ifdef __CUDACC__
#define COSUB_UNROLL _Pragma("unroll")
#define COSUB_NO_UNROLL _Pragma("unroll 1")
#else
#define COSUB_UNROLL
#define COSUB_NO_UNROLL
#endif

constexpr unsigned kWarpgroup = 128;  // threads

/// Panels with lines of kColumns, 64 or 16, each with kLines of them.
template <unsigned kColumns, unsigned kLines>
struct PanelsOf {
  static_assert(kColumns == 64 || kColumns == 16);
  static constexpr unsigned kLineValues = kColumns, kValues = kLines * kColumns;  // of a panel
  __host__ __device__ static constexpr std::size_t bytes(std::size_t columns) {
    return columns / kColumns * kValues * sizeof(Bf16);
  }
  /// Values before this one. Eight neighbours lie together, from column % 8 == 0; 8 i columns further, while
  /// those stay below a multiple of 8 that is a power of two, and in the panel, is at exclusive or with 8 i.
  __device__ __forceinline__ static unsigned place(unsigned line, unsigned column) {
    const unsigned exchange = kColumns == 64 ? line % 8 : line / 4 % 2;
    return column / kColumns * kValues + line * kColumns +
           ((column % kColumns / 8 ^ exchange) * 8 + column % 8);
  }
  __device__ __forceinline__ Bf16* at(unsigned line, unsigned column) const {
    return begin + place(line, column);
  }

  Bf16* begin;
};

#ifndef COSUB_CUDA_ON_CPU

/// Where a product finds an operand: its first line and column, as the hardware wants it (PTX ISA, matrix
/// descriptor): address, distance between panels and between groups of 8 lines, swizzle.
template <class Panels>
struct Operand {
  __device__ __forceinline__ explicit Operand(Panels panels)
      : low(static_cast<unsigned>(__cvta_generic_to_shared(panels.begin)) >> 4) {}
  __device__ __forceinline__ void move(unsigned values) { low += values / 8; }  // 16 bytes
  /// For sums over columns, which are in one panel.
  __device__ __forceinline__ std::uint64_t along_lines() const { return with_panel(1); }
  /// For sums over lines.
  __device__ __forceinline__ std::uint64_t across_lines() const { return with_panel(Panels::kValues / 8); }

  __device__ __forceinline__ std::uint64_t with_panel(unsigned distance) const {
    constexpr unsigned kGroup = Panels::kLineValues, kSwizzle = kGroup == 64 ? 1 : 3;
    return static_cast<std::uint64_t>(kSwizzle << 30 | kGroup) << 32 | (low + (distance << 16));
  }

  unsigned low;
};

#endif

/// The operand that begins so many lines, a multiple of 8, and columns, a multiple of 16, further on; from a
/// panel's first column on.
template <class Panels>
__device__ __forceinline__ Operand<Panels> further(Operand<Panels> operand, unsigned lines,
                                                   unsigned columns = 0) {
  constexpr unsigned kColumns = Panels::kLineValues;
  operand.move(columns / kColumns * Panels::kValues + lines * kColumns + columns % kColumns);
  return operand;
}

#ifndef COSUB_CUDA_ON_CPU

/// 16 bytes, both aligned to that; zeros where there is nothing to read.
__device__ __forceinline__ void copy_16_async(void* shared, const void* global, bool reads = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(shared))),
               "l"(global), "r"(reads ? 16 : 0)
               : "memory");
}
/// The thread's copies since the last call are one group.
__device__ __forceinline__ void end_group_of_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until at most that many of the thread's groups are under way. Others see what was copied after a
/// barrier.
template <int kLeft>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

/// Has the line of 128 bytes come to the second cache.
__device__ __forceinline__ void prefetch(const void* global) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(global));
}

/// Before the first of some products, and whenever registers that they take or give were touched since.
__device__ __forceinline__ void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/// The products since the last call are one group.
__device__ __forceinline__ void end_group_of_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most that many groups, the last, are under way.
template <int kLeft>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}
/// By each thread that wrote to shared memory what products read, before the barrier.
__device__ __forceinline__ void show_to_products() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
/// Keeps the compiler from moving what it does with these across products under way.
template <int kTiles>
__device__ __forceinline__ void hold(float (&sums)[kTiles][4]) {
  COSUB_UNROLL
  for (int i = 0; i < kTiles; ++i) COSUB_UNROLL
  for (int j = 0; j < 4; ++j) asm volatile("" : "+f"(sums[i][j])::"memory");
}

#define COSUB_SUMS_OF_8(s, i) "+f"(s[i][0]), "+f"(s[i][1]), "+f"(s[i][2]), "+f"(s[i][3])
#define COSUB_SUMS_OF_16(s, i) COSUB_SUMS_OF_8(s, i), COSUB_SUMS_OF_8(s, i + 1)
#define COSUB_SUMS_OF_32(s, i) COSUB_SUMS_OF_16(s, i), COSUB_SUMS_OF_16(s, i + 2)
#define COSUB_SUMS_OF_64(s, i) COSUB_SUMS_OF_32(s, i), COSUB_SUMS_OF_32(s, i + 4)
#define COSUB_SUMS_OF_80(s, i) COSUB_SUMS_OF_64(s, i), COSUB_SUMS_OF_16(s, i + 8)

/// sums [64, 8 kTiles] = (adds: +=) A B^T for 16 columns: 64 lines of one panel, 8 kTiles of another.
template <int kTiles, class First, class Second>
__device__ __forceinline__ void multiply_panels(float (&sums)[kTiles][4], Operand<First> a, Operand<Second> b,
                                                bool adds) {
  static_assert(kTiles == 2 || kTiles == 4 || kTiles == 8);
  if constexpr (kTiles == 2)
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %10, 0; wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7}, %8, %9, p, 1, 1, 0, 0;}"
        : COSUB_SUMS_OF_16(sums, 0)
        : "l"(a.along_lines()), "l"(b.along_lines()), "r"(static_cast<int>(adds)));
  else if constexpr (kTiles == 4)
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %18, 0; wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, %16, %17, p, 1, 1, 0, 0;}"
        : COSUB_SUMS_OF_32(sums, 0)
        : "l"(a.along_lines()), "l"(b.along_lines()), "r"(static_cast<int>(adds)));
  else
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, "
        "%2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, "
        "%23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, p, 1, 1, 0, 0;}"
        : COSUB_SUMS_OF_64(sums, 0)
        : "l"(a.along_lines()), "l"(b.along_lines()), "r"(static_cast<int>(adds)));
}

/// sums [64, 8 kTiles] += A B: A [64, 16] in registers, B 16 lines of panels.
template <int kTiles, class Panels>
__device__ __forceinline__ void add_product(float (&sums)[kTiles][4], const unsigned (&a)[4],
                                            Operand<Panels> b) {
  static_assert(kTiles == 8 || kTiles == 10);
  if constexpr (kTiles == 8)
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, "
        "%11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, "
        "%31}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
        : COSUB_SUMS_OF_64(sums, 0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.across_lines()));
  else
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, "
        "%11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, "
        "%31, %32, %33, %34, %35, %36, %37, %38, %39}, {%40, %41, %42, %43}, %44, 1, 1, 1, 1;"
        : COSUB_SUMS_OF_80(sums, 0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.across_lines()));
}

/// sums [64, 8 kTiles] = (adds: +=) A^T B: 16 lines of panels with 64 columns, 16 of others.
template <int kTiles, class First, class Second>
__device__ __forceinline__ void multiply_transpose(float (&sums)[kTiles][4], Operand<First> a,
                                                   Operand<Second> b, bool adds) {
  static_assert(kTiles == 8 || kTiles == 10);
  if constexpr (kTiles == 8)
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "
        "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, p, 1, 1, 1, 1;}"
        : COSUB_SUMS_OF_64(sums, 0)
        : "l"(a.across_lines()), "l"(b.across_lines()), "r"(static_cast<int>(adds)));
  else
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %42, 0; wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "
        "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39}, "
        "%40, %41, p, 1, 1, 1, 1;}"
        : COSUB_SUMS_OF_80(sums, 0)
        : "l"(a.across_lines()), "l"(b.across_lines()), "r"(static_cast<int>(adds)));
}

/// sums [16, 8] += A B by one warp (PTX ISA: mma.m16n8k16): A [16, 16] as a product's first operand in
/// registers, B [16, 8] where lane l has column l / 4, lines 2 (l % 4) and the next in b[0], 8 further in
/// b[1].
__device__ __forceinline__ void add_tile(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : COSUB_SUMS_OF_8((&sums), 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// A panel's 16 lines and 16 columns, from multiples of 16 on, as two second operands of add_tile: b[0], b[1]
/// for the first 8 columns, b[2], b[3] for the others.
template <class Panels>
__device__ __forceinline__ void load_across(unsigned (&b)[4], Panels panels, unsigned line, unsigned column) {
  const unsigned lane = threadIdx.x % 32;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
               : "r"(static_cast<unsigned>(
                   __cvta_generic_to_shared(panels.at(line + lane % 16, column + lane / 16 * 8))))
               : "memory");
}

/// threadIdx.x, read anew: what is made of it is not kept in registers from one turn of a loop to the next.
__device__ __forceinline__ unsigned thread_anew() {
  unsigned thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

/// What is the same in all lanes, told to the compiler.
__device__ __forceinline__ unsigned same_in_warp(unsigned value) {
  return __shfl_sync(0xffffffffu, value, 0);
}

#undef COSUB_SUMS_OF_8
#undef COSUB_SUMS_OF_16
#undef COSUB_SUMS_OF_32
#undef COSUB_SUMS_OF_64
#undef COSUB_SUMS_OF_80

#endif

/// A panel's 16 lines and 16 columns, from multiples of 16 on, as a first operand in registers.
template <class Panels>
__device__ __forceinline__ void load_tile(unsigned (&a)[4], Panels panels, unsigned line, unsigned column) {
  const unsigned lane = threadIdx.x % 32;
  COSUB_UNROLL
  for (unsigned i = 0; i < 4; ++i)
    a[i] = *reinterpret_cast<const unsigned*>(
        panels.at(line + lane / 4 + i % 2 * 8, column + lane % 4 * 2 + i / 2 * 8));
}

/// The first (low) and the second of a pair_of.
__device__ __forceinline__ float low_of(unsigned pair) {
  return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float high_of(unsigned pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

/// Two neighbours as a product takes them.
__device__ __forceinline__ unsigned pair_of(float first, float second) {
#ifdef __CUDA_ARCH__
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return from_float<Bf16>(first).bits | static_cast<unsigned>(from_float<Bf16>(second).bits) << 16;
#endif
}

}  // namespace cosub::kernels
