// The kernels for GPUs of compute capability 9.0 alone, compiled apart (hopper.cu): others cannot run their
// code.
#pragma once

#include "worker/kernels/kernels.h"

namespace cosub::kernels {

void add_hopper_kernels(Kernels& table);

void add_products(Kernels& table);  // gelu_products.cu

}  // namespace cosub::kernels
