// `precision:` of a stage. fp32: as written. tf32: products on tensor cores with 10 bits of mantissa (a GPU's
// matter; a CPU computes fp32). bf16: PyTorch's autocast: matrix products and convolutions of the forward
// pass, and so their backward passes, take bfloat16 operands, each sum is of float32; weights, gradients,
// optimizer and losses stay float32.
#pragma once

#include <ATen/ATen.h>

#include "common/config/pipeline.h"

namespace cosub::train {

/// For the whole process: how float32 products are computed. Call it once, before the first step.
void set_product_precision(config::Precision precision);

/// While it lives, this thread's operations on `device` run under autocast where the precision is bf16.
/// Around forward passes only: the backward pass follows by itself. Casts of weights are not cached, since
/// each weight is used once in a pass.
class AutocastScope {
 public:
  AutocastScope(config::Precision precision, at::Device device);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  at::DeviceType device_;
  bool on_, was_enabled_ = false, was_caching_ = false;
  at::ScalarType dtype_before_ = at::kFloat;
};

}  // namespace cosub::train
