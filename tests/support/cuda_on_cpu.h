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
/// Two places of 8 bytes that belong to the thread `distance` (by exclusive or) from the running one; which
/// of them is in use changes with each call of next_exchange.
void* exchange_slot(unsigned distance);
void next_exchange();

}  // namespace cosub::testing

namespace cosub::kernels {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};
inline Index threadIdx, blockIdx, blockDim, gridDim;

inline void __syncthreads() {
  testing::wait_for_block();
}

template <class T>
T __shfl_xor_sync(unsigned /*mask*/, T value, int distance) {
  static_assert(sizeof(T) <= 8);
  testing::next_exchange();
  std::memcpy(testing::exchange_slot(0), &value, sizeof(T));
  testing::wait_for_warp();
  std::memcpy(&value, testing::exchange_slot(static_cast<unsigned>(distance)), sizeof(T));
  return value;
}

inline float __uint_as_float(unsigned bits) {
  return std::bit_cast<float>(bits);
}
inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), Extent grid, Extent block, Stream /*stream*/,
            const Arguments&... arguments) {
  testing::run_grid(name, grid, block, [&] { kernel(arguments...); });
}

}  // namespace cosub::kernels
