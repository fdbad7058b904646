#include "worker/kernels/hopper.h"

#include "worker/kernels/attention.cuh"
#include "worker/kernels/attention_backward.cuh"

namespace cosub::kernels {

void add_hopper_kernels(Kernels& table) {
  table.attention = run_attention;
  table.attention_backward = run_attention_backward;
#ifdef COSUB_WITH_CUTLASS
  add_products(table);
#endif
}

}  // namespace cosub::kernels
