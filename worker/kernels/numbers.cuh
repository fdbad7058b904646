// Numbers as the kernels read and write them: float32 or bfloat16 in memory, float32 in registers, several at
// once where all addresses allow it; and sums over a warp.
#pragma once

#include <cstdint>
#include <type_traits>

#include "worker/kernels/launch.cuh"

namespace cosub::kernels {

struct Bf16 {
  std::uint16_t bits;
};

__device__ __forceinline__ float as_float(float x) {
  return x;
}
__device__ __forceinline__ float as_float(Bf16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}

template <class T>
__device__ __forceinline__ T from_float(float x);

template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}

/// To the nearest, ties to even; what is no number stays none.
template <>
__device__ __forceinline__ Bf16 from_float<Bf16>(float x) {
#ifdef __CUDA_ARCH__
  std::uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return {bits};
#else
  const unsigned bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
#endif
}

/// 2^x and 1 / x, good to some units in the last place, by one instruction each.
__device__ __forceinline__ float fast_exp2(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}
__device__ __forceinline__ float fast_reciprocal(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / x;
#endif
}

/// kWidth neighbours, moved by one instruction.
template <int kWidth>
struct Pack {
  float at[kWidth];
};

template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Packed {
  T at[kWidth];
};

template <int kWidth, class T>
__device__ __forceinline__ Pack<kWidth> load(const T* from) {
  const auto packed = *reinterpret_cast<const Packed<T, kWidth>*>(from);
  Pack<kWidth> pack;
  for (int i = 0; i < kWidth; ++i) pack.at[i] = as_float(packed.at[i]);
  return pack;
}

template <int kWidth, class T>
__device__ __forceinline__ void pack_into(const Pack<kWidth>& pack, Packed<T, kWidth>& packed) {
#ifdef __CUDA_ARCH__
  if constexpr (std::is_same_v<T, Bf16> && kWidth % 2 == 0) {  // two by one instruction
    for (int i = 0; i < kWidth; i += 2)
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;"
          : "=r"(reinterpret_cast<unsigned*>(packed.at)[i / 2])
          : "f"(pack.at[i + 1]), "f"(pack.at[i]));
  } else
#endif
    for (int i = 0; i < kWidth; ++i) packed.at[i] = from_float<T>(pack.at[i]);
}

template <int kWidth, class T>
__device__ __forceinline__ void store(const Pack<kWidth>& pack, T* to) {
  Packed<T, kWidth> packed;
  pack_into(pack, packed);
  *reinterpret_cast<Packed<T, kWidth>*>(to) = packed;
}

/// 16 bytes to global memory by one instruction.
__device__ __forceinline__ void store_16(void* to, const unsigned (&from)[4]) {
#ifdef __CUDA_ARCH__
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(from[0]), "r"(from[1]), "r"(from[2]),
               "r"(from[3])
               : "memory");
#else
  *static_cast<Packed<unsigned, 4>*>(to) = {{from[0], from[1], from[2], from[3]}};
#endif
}

/// Whether packs of 4 may be moved there.
template <class... Pointers>
__host__ __device__ inline bool aligned_for_4(Pointers... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) | ...) % (4 * sizeof(float))) == 0;
}

/// function(a value of the type)
template <class Function>
void with_type(Dtype type, const Function& function) {
  if (type == Dtype::kBfloat16) return function(Bf16{});
  function(float{});
}

/// function(std::integral_constant of the width)
template <class Function>
void with_width(bool four, const Function& function) {
  if (four) return function(std::integral_constant<int, 4>{});
  function(std::integral_constant<int, 1>{});
}

constexpr int kWarp = 32;

/// The sum over the warp's lanes, in each of them; all must call.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

/// The line of the whole tensor that the part's line stands for.
__device__ __forceinline__ std::int64_t line_of_whole(const RowPart& part, std::int64_t line) {
  if (part.rows == nullptr) return line;
  const auto positions = static_cast<unsigned>(part.positions);
  const unsigned row = static_cast<unsigned>(line) / positions;
  return part.rows[row] * part.positions + (static_cast<unsigned>(line) - row * positions);
}

}  // namespace cosub::kernels
