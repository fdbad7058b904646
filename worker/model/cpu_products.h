// The models' matrix products and convolutions: LibTorch's own, but for autocast to bfloat16 on a CPU that
// has no units for it, where LibTorch's are several times slower than those of float32. There they are
// float32 products of operands rounded to bfloat16, the result rounded, and likewise in the backward pass. A
// product of two bfloat16 numbers is exact in float32 and sums are of float32 in both, so these are the
// numbers of autocast; results stay float32 tensors, as everything else in the model takes them.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>

namespace cosub::model {

/// x [..., in], weight [out, in], bias [out] or undefined -> [..., out]. On a GPU with our kernels,
/// and on a CPU in float32, by linear_node.h.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// As at::conv2d, dilation 1.
at::Tensor conv2d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                  std::array<std::int64_t, 2> stride, std::array<std::int64_t, 2> padding,
                  std::int64_t groups);

/// Whether this processor multiplies bfloat16 numbers itself.
bool cpu_has_bf16_units();

/// Whether products of `x` are rounded as described above: it is on a CPU without such units, and autocast to
/// bfloat16 is on.
bool rounds_products(const at::Tensor& x);

/// For tests and for a CPU with units: while it lives, rounds_products does not ask for the processor.
class RoundingWhateverTheCpu {
 public:
  RoundingWhateverTheCpu();
  ~RoundingWhateverTheCpu();
  RoundingWhateverTheCpu(const RoundingWhateverTheCpu&) = delete;
  RoundingWhateverTheCpu& operator=(const RoundingWhateverTheCpu&) = delete;
};

/// t's numbers rounded to bfloat16's, and so its gradient in the backward pass. float32, on a CPU; a copy.
at::Tensor rounded_to_bf16(const at::Tensor& t);

}  // namespace cosub::model
