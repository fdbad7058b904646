// What gelu_products.cuh computes, by loops on a CPU, since CUTLASS's kernels cannot be emulated.
#pragma once

#include "worker/kernels/kernels.h"

namespace cosub::testing {

void gelu_product_by_loops(const kernels::GeluProduct& a, kernels::Stream stream);
void slope_product_by_loops(const kernels::SlopeProduct& a, kernels::Stream stream);

}  // namespace cosub::testing
