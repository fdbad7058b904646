// All kernels as kernels.h's table.
#pragma once

#include "worker/kernels/adamw.cuh"
#include "worker/kernels/add_rows.cuh"
#include "worker/kernels/bias_gelu.cuh"
#include "worker/kernels/column_sums.cuh"
#include "worker/kernels/lamb.cuh"
#include "worker/kernels/layer_norm.cuh"
#include "worker/kernels/norm.cuh"
#include "worker/kernels/sgd.cuh"

namespace cosub::kernels {

inline Kernels table_of_kernels() {
  Kernels table;
  table.layer_norm = run_layer_norm;
  table.layer_norm_backward = run_layer_norm_backward;
  table.add_rows = run_add_rows;
  table.add_rows_backward = run_add_rows_backward;
  table.bias_gelu = run_bias_gelu;
  table.bias_gelu_backward = run_bias_gelu_backward;
  table.column_sums = run_column_sums;
  table.join_columns = run_join_columns;
  table.norm = run_norm;
  table.adamw = run_adamw;
  table.sgd = run_sgd;
  table.lamb = run_lamb;
  table.ema = run_ema;
  return table;
}

}  // namespace cosub::kernels
