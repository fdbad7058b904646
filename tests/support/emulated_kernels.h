// Our CUDA kernels run by a CPU (cuda_on_cpu.h), as the table that the module with the real ones gives: for
// tests of the kernels and of what calls them.
#pragma once

#include "worker/kernels/kernels.h"

namespace cosub::testing {

const kernels::Kernels* emulated_kernels();

/// Threads and blocks run in descending order from now on, or in ascending order again.
void set_backwards(bool descending);

/// While it lives, the model's code finds the emulated kernels.
class WithEmulatedKernels {
 public:
  WithEmulatedKernels() : before_(kernels::loaded_kernels()) { kernels::set_kernels(emulated_kernels()); }
  ~WithEmulatedKernels() { kernels::set_kernels(before_); }
  WithEmulatedKernels(const WithEmulatedKernels&) = delete;
  WithEmulatedKernels& operator=(const WithEmulatedKernels&) = delete;

 private:
  const kernels::Kernels* before_;
};

}  // namespace cosub::testing
