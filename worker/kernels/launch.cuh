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

/// kernel<<<grid, block>>>(arguments...); nothing where the grid is empty. x below 2^31, y below 2^16.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), Extent grid, Extent block, Stream stream,
            const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0) return;
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y));
  const dim3 threads(static_cast<unsigned>(block.x), static_cast<unsigned>(block.y));
  kernel<<<blocks, threads, 0, static_cast<cudaStream_t>(stream)>>>(arguments...);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("CUDA kernel ") + name + ": " + cudaGetErrorString(error));
}

}  // namespace cosub::kernels

#endif
