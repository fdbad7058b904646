#include "worker/kernels/hopper.h"

#include "worker/kernels/attention_backward.cuh"

namespace cosub::kernels {

void add_hopper_kernels(Kernels& table) {
  table.attention_backward = run_attention_backward;
}

}  // namespace cosub::kernels
