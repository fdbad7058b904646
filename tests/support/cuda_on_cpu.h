// CUDA's language on a CPU, as far as our kernels use it, so that tests run the very source that nvcc
// compiles (worker/kernels/*.cuh, to be included after this). The threads of a block are fibers, blocks run
// one after the other. A thread runs until a barrier or a shuffle makes it wait for the others; where they
// can never all get there, the launch throws. Threads run in ascending order or, with set_backwards, in
// descending order: a kernel that lacks a barrier gives other numbers then. One launch at a time, from one OS
// thread.
#pragma once

#include <math.h>  // the names that CUDA has without std::

#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>

#define COSUB_CUDA_ON_CPU
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)

#include "worker/kernels/launch.cuh"

namespace cosub::testing {

/// Runs `thread` as each thread of each block. std::logic_error where threads wait for each other in vain.
void run_grid(const char* name, kernels::Extent grid, kernels::Extent block,
              const std::function<void()>& thread);

void wait_for_block();  // of the running thread
void wait_for_warp();
/// Two places of kExchangeBytes that belong to the thread `distance` (by exclusive or) from the running one;
/// which of them is in use changes with each call of next_exchange.
constexpr std::size_t kExchangeBytes = 32;
void* exchange_slot(unsigned distance);
void next_exchange();
/// What a launch asked for, the same for all blocks.
void* dynamic_shared();
void resize_dynamic_shared(std::size_t bytes);

}  // namespace cosub::testing

namespace cosub::kernels {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};
inline Index threadIdx, blockIdx, blockDim, gridDim;

inline float __uint_as_float(unsigned bits) {
  return std::bit_cast<float>(bits);
}
inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}

inline void __syncthreads() {
  testing::wait_for_block();
}

inline void __syncwarp() {
  testing::wait_for_warp();
}

/// Shows `mine` to the warp and waits for what the others show.
template <class T>
void show_to_warp(const T& mine) {
  static_assert(sizeof(T) <= testing::kExchangeBytes);
  testing::next_exchange();
  std::memcpy(testing::exchange_slot(0), &mine, sizeof(T));
  testing::wait_for_warp();
}
/// What the lane `distance` from this one (by exclusive or) showed last.
template <class T>
T shown_at(unsigned distance) {
  T value;
  std::memcpy(&value, testing::exchange_slot(distance), sizeof(T));
  return value;
}

template <class T>
T __shfl_xor_sync(unsigned /*mask*/, T value, int distance) {
  show_to_warp(value);
  return shown_at<T>(static_cast<unsigned>(distance));
}
template <class T>
T __shfl_sync(unsigned /*mask*/, T value, int lane) {
  show_to_warp(value);
  return shown_at<T>(static_cast<unsigned>(lane) ^ threadIdx.x % 32);
}
// What launch.cuh and warpgroup_matrix.cuh have for a GPU.

inline unsigned char* dynamic_shared() {
  return static_cast<unsigned char*>(testing::dynamic_shared());
}

inline void copy_16_async(void* shared, const void* global, bool reads = true) {
  if (reads)
    std::memcpy(shared, global, 16);
  else
    std::memset(shared, 0, 16);
}
inline void end_group_of_copies() {}
inline void prefetch(const void* /*global*/) {}
template <int kLeft>
void wait_for_copies() {}

// What warpgroup_matrix.cuh has for a GPU. Operands are read when a product is asked for.

inline float number_at(std::uintptr_t address) {
  std::uint16_t bits;
  std::memcpy(&bits, reinterpret_cast<const void*>(address), sizeof(bits));
  return __uint_as_float(static_cast<unsigned>(bits) << 16);
}
template <class Panels>
struct Operand {
  explicit Operand(Panels panels) : plain(reinterpret_cast<std::uintptr_t>(panels.begin)) {}
  void move(unsigned values) { plain += values * 2; }
  float at(unsigned line, unsigned column) const {
    constexpr unsigned kColumns = Panels::kLineValues;
    const std::uintptr_t unswizzled =
        plain + (column / kColumns * Panels::kValues + line * kColumns + column % kColumns) * 2;
    return number_at(unswizzled ^ (unswizzled >> 3 & (kColumns == 64 ? 0x70 : 0x10)));
  }

  std::uintptr_t plain;  // where it would begin if pieces of 16 bytes were not exchanged
};

inline void begin_products() {}
inline void end_group_of_products() {}
template <int kLeft>
void wait_for_products() {}
inline void show_to_products() {}
inline unsigned thread_anew() {
  return threadIdx.x;
}
inline unsigned same_in_warp(unsigned value) {
  return value;
}
template <int kTiles>
void hold(float (&)[kTiles][4]) {}

/// sums[tile][i] += the sum over k below 16 of a(line, k) b(k, column), for what this lane has.
template <int kTiles, class First, class Second>
void add_products(float (&sums)[kTiles][4], const First& a, const Second& b) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
  for (unsigned i = 0; i < 4; ++i) {
    for (unsigned tile = 0; tile < kTiles; ++tile) {
      const unsigned line = warp * 16 + lane / 4 + i / 2 * 8, column = tile * 8 + lane % 4 * 2 + i % 2;
      for (unsigned k = 0; k < 16; ++k) sums[tile][i] += a(line, k) * b(k, column);
    }
  }
}

template <int kTiles, class First, class Second>
void multiply_panels(float (&sums)[kTiles][4], Operand<First> a, Operand<Second> b, bool adds) {
  if (!adds) std::memset(sums, 0, sizeof(sums));
  add_products(
      sums, [a](unsigned line, unsigned k) { return a.at(line, k); },
      [b](unsigned k, unsigned column) { return b.at(column, k); });
}

/// What a lane has of a product's operands in registers.
struct InRegisters {
  unsigned a[4], b[2];
};
/// The number that a first operand has there, by what the lanes showed.
inline float shown_first(unsigned line, unsigned k) {
  const auto shown = shown_at<InRegisters>((line % 8 * 4 + k % 8 / 2) ^ threadIdx.x % 32);
  const unsigned pair = shown.a[line % 16 / 8 + k / 8 * 2];
  return __uint_as_float(k % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
}
inline float shown_second(unsigned k, unsigned column) {
  const auto shown = shown_at<InRegisters>((column * 4 + k % 8 / 2) ^ threadIdx.x % 32);
  const unsigned pair = shown.b[k / 8];
  return __uint_as_float(k % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
}

template <int kTiles, class Panels>
void add_product(float (&sums)[kTiles][4], const unsigned (&a)[4], Operand<Panels> b) {
  show_to_warp(InRegisters{{a[0], a[1], a[2], a[3]}, {}});
  add_products(sums, shown_first, [b](unsigned k, unsigned column) { return b.at(k, column); });
}

template <int kTiles, class First, class Second>
void multiply_transpose(float (&sums)[kTiles][4], Operand<First> a, Operand<Second> b, bool adds) {
  if (!adds) std::memset(sums, 0, sizeof(sums));
  add_products(
      sums, [a](unsigned line, unsigned k) { return a.at(k, line); },
      [b](unsigned k, unsigned column) { return b.at(k, column); });
}

inline void add_tile(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  show_to_warp(InRegisters{{a[0], a[1], a[2], a[3]}, {b0, b1}});
  float tile[1][4] = {{sums[0], sums[1], sums[2], sums[3]}};
  add_products(tile, shown_first, shown_second);
  std::memcpy(sums, tile[0], sizeof(sums));
}

template <class Panels>
void load_across(unsigned (&b)[4], Panels panels, unsigned line, unsigned column) {
  const unsigned lane = threadIdx.x % 32;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned first = line + lane % 4 * 2 + i % 2 * 8, of_lane = column + lane / 4 + i / 2 * 8;
    b[i] = panels.at(first, of_lane)->bits | static_cast<unsigned>(panels.at(first + 1, of_lane)->bits) << 16;
  }
}

inline std::int64_t num_multiprocessors() {
  return 2;
}

template <class... Parameters, class... Arguments>
void launch_with_shared(const char* name, void (*kernel)(Parameters...), std::size_t bytes, Extent grid,
                        Extent block, Stream /*stream*/, const Arguments&... arguments) {
  testing::resize_dynamic_shared(bytes);
  testing::run_grid(name, grid, block, [&] { kernel(arguments...); });
}
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), Extent grid, Extent block, Stream stream,
            const Arguments&... arguments) {
  launch_with_shared(name, kernel, 0, grid, block, stream, arguments...);
}

}  // namespace cosub::kernels
