// LibTorch's CUDA half for tests that run on a CPU first and then on a GPU.
#pragma once

#include <dlfcn.h>

#include <stdexcept>

#include "worker/collective/communicator.h"

namespace cosub::testing {

/// Loads it where this host has a GPU, which is returned. Before a test's first tensor: LibTorch asks for
/// that half once and remembers that it was not there. std::runtime_error where it does not load.
inline bool load_cuda_half() {
  if (!collective::gpu_present()) return false;
  if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) throw std::runtime_error(dlerror());
  return true;
}

}  // namespace cosub::testing
