// A fixed tensor that a layer computes with, a mask or a table of indices. It is no parameter and no buffer:
// the model's state, its hash, checkpoints and exports do not know it. Owned by its layer; not thread-safe.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <utility>

namespace cosub::model {

class Constant {
 public:
  explicit Constant(at::Tensor value) : value_(std::move(value)), here_(value_) {}  // undefined: none
  bool defined() const { return value_.defined(); }

  /// On the device of `parameter` and, where the constant is floating point, of its dtype. Copied, which may
  /// wait for the device, in the first pass after the model went there; the same memory in every later one,
  /// as a CUDA graph needs it.
  const at::Tensor& beside(const at::Tensor& parameter) {
    const at::ScalarType dtype = value_.is_floating_point() ? parameter.scalar_type() : value_.scalar_type();
    if (here_.device() != parameter.device() || here_.scalar_type() != dtype) {
      const c10::InferenceMode off(
          false);  // or a validation before the first step would leave what no step may use
      here_ = value_.to(parameter.device(), dtype);
    }
    return here_;
  }

 private:
  at::Tensor value_, here_;
};

}  // namespace cosub::model
