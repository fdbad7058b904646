// The module libcosub_kernels.so: all kernels in one unit, for nvcc. Nothing of LibTorch, which would triple
// the time that this takes to compile.
#include "worker/kernels/table.cuh"

extern "C" const cosub::kernels::Kernels* cosub_kernels() {
  static const cosub::kernels::Kernels table = cosub::kernels::table_of_kernels();
  return &table;
}
