// The LayerNorm that starts a residual branch, as values: given to the seam and not applied by the branch
// itself, it can be computed where the branch's rows are taken out.
#pragma once

#include <ATen/ATen.h>

namespace cosub::model {

struct Norm {
  at::Tensor weight, bias;  // [C]; undefined: there is none
  double eps = 0;

  bool defined() const { return weight.defined(); }
  /// Over the last dimension, by LibTorch.
  at::Tensor operator()(const at::Tensor& x) const {
    return at::layer_norm(x, {weight.size(0)}, weight, bias, eps);
  }
};

}  // namespace cosub::model
