// How a kernel is launched: by CUDA here; by tests/support/cuda_on_cpu.h, which is included before, on a CPU.
#pragma once

#include "worker/kernels/kernels.h"

namespace cosub::kernels {

/// Of a grid in blocks, or of a block in threads.
struct Extent {
  std::int64_t x = 1, y = 1;
};

}  // namespace cosub::kernels

#ifndef COSUB_CUDA_ON_CPU

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace cosub::kernels {

/// The memory that launch_with_shared gives each block.
__device__ __forceinline__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char cosub_dynamic_shared[];
  return cosub_dynamic_shared;
}

inline void check(cudaError_t error, const char* what, const char* name = "") {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // told here: the next who asks shall not hear of it
  throw std::runtime_error(std::string("CUDA ") + what + name + ": " + cudaGetErrorString(error));
}

/// kernel<<<grid, block, bytes>>>(arguments...); nothing where the grid is empty. x below 2^31, y below 2^16.
template <class... Parameters, class... Arguments>
void launch_with_shared(const char* name, void (*kernel)(Parameters...), std::size_t bytes, Extent grid,
                        Extent block, Stream stream, const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0) return;
  if (bytes > 0)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
          "kernel ", name);
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y));
  const dim3 threads(static_cast<unsigned>(block.x), static_cast<unsigned>(block.y));
  kernel<<<blocks, threads, bytes, static_cast<cudaStream_t>(stream)>>>(arguments...);
  check(cudaGetLastError(), "kernel ", name);
}

/// Of the current device.
inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "device");
  check(cudaDeviceGetAttribute(&value, attribute, device), "device attribute");
  return value;
}
inline std::int64_t num_multiprocessors() {
  return device_attribute(cudaDevAttrMultiProcessorCount);
}
/// 90: 9.0; 0 where there is no GPU.
inline int compute_capability() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return 0;
  return 10 * device_attribute(cudaDevAttrComputeCapabilityMajor) +
         device_attribute(cudaDevAttrComputeCapabilityMinor);
}

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), Extent grid, Extent block, Stream stream,
            const Arguments&... arguments) {
  launch_with_shared(name, kernel, 0, grid, block, stream, arguments...);
}

}  // namespace cosub::kernels

#endif
