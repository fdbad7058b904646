// What our autograd nodes share that call the CUDA kernels (worker/kernels): whether there are any for a
// tensor, and where a call is queued.
#pragma once

#include <ATen/ATen.h>

#include <optional>

#include "worker/kernels/kernels.h"

namespace cosub::model {

/// The kernels for tensors on x's device; null where LibTorch's operators have to do.
const kernels::Kernels* kernels_for(const at::Tensor& x);

/// What matrix products on x's device take and give: bfloat16 under autocast to it, float32 without autocast.
/// Nothing under autocast to another dtype, for which there are no kernels.
std::optional<at::ScalarType> product_dtype(const at::Tensor& x);

/// On the device whose kernels take it: float32, contiguous.
bool is_plain_for_kernels(const at::Tensor& x);
/// The same, of float32 or bfloat16.
bool is_result_for_kernels(const at::Tensor& x);

kernels::Dtype kernel_dtype(const at::Tensor& x);  // float32 or bfloat16

/// The current stream of x's device, and that device as the current one while this lives.
class StreamOf {
 public:
  explicit StreamOf(const at::Tensor& x);
  operator kernels::Stream() const { return stream_; }

 private:
  c10::OptionalDeviceGuard guard_;
  kernels::Stream stream_ = nullptr;
};

/// x, or a copy where its memory does not begin at a multiple of 16 bytes, as some kernels want it.
at::Tensor aligned_to_16(const at::Tensor& x);

/// Uninitialised floats on x's device.
at::Tensor floats_like(const at::Tensor& x, at::IntArrayRef sizes);

/// The address of a tensor that may be undefined.
inline float* float_address(const at::Tensor& x) {
  return x.defined() ? x.mutable_data_ptr<float>() : nullptr;
}
inline const float* const_float_address(const at::Tensor& x) {
  return x.defined() ? x.const_data_ptr<float>() : nullptr;
}

}  // namespace cosub::model
