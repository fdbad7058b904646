#include "worker/kernels/gelu_products.cuh"

#include "worker/kernels/hopper.h"

namespace cosub::kernels {

void add_products(Kernels& table) {
  table.gelu_product = run_gelu_product;
  table.slope_product = run_slope_product;
}

}  // namespace cosub::kernels
