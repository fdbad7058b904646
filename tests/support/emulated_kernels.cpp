#include "tests/support/emulated_kernels.h"

#include "tests/support/cuda_on_cpu.h"
#include "tests/support/emulated_products.h"
#include "worker/kernels/attention.cuh"
#include "worker/kernels/attention_backward.cuh"
#include "worker/kernels/table.cuh"

namespace cosub::testing {

const kernels::Kernels* emulated_kernels() {
  static const kernels::Kernels table = [] {
    kernels::Kernels made = kernels::table_of_kernels();
    made.attention = kernels::run_attention;
    made.attention_backward = kernels::run_attention_backward;
    made.gelu_product = gelu_product_by_loops;
    made.slope_product = slope_product_by_loops;
    made.on_cpu = true;
    return made;
  }();
  return &table;
}

}  // namespace cosub::testing
