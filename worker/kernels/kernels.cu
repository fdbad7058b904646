// The module libcosub_kernels.so: the kernels that every GPU runs, in one unit. Nothing of LibTorch, which
// would triple the time that this takes to compile.
#include "worker/kernels/hopper.h"
#include "worker/kernels/table.cuh"

extern "C" const cosub::kernels::Kernels* cosub_kernels() {
  static const cosub::kernels::Kernels table = [] {
    cosub::kernels::Kernels made = cosub::kernels::table_of_kernels();
    if (cosub::kernels::compute_capability() == 90) cosub::kernels::add_hopper_kernels(made);
    return made;
  }();
  return &table;
}
