#include <gtest/gtest.h>

#include "tests/worker/kernels/kernel_rig.h"

namespace cosub::kernels {
namespace {

using testing::distance;

class BiasGeluTest : public testing::KernelTest {
 protected:
  at::Tensor forward(const at::Tensor& x, const at::Tensor& bias) const {
    at::Tensor y = at::empty_like(x);
    BiasGelu a;
    a.lines = x.size(0);
    a.channels = x.size(1);
    a.type = testing::dtype_of(x.scalar_type());
    a.x = x.const_data_ptr();
    a.bias = bias.const_data_ptr<float>();
    a.y = y.mutable_data_ptr();
    in_any_order(y, [&] { kernels().bias_gelu(a, nullptr); });
    return y;
  }
};

TEST_P(BiasGeluTest, ForwardAndGradientsAreThoseOfFloat64) {
  for (const testing::MatrixShape& shape : testing::kMatrixShapes) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const at::Tensor x = numbers({shape.lines, shape.channels}, 1, dtype),
                       bias = numbers({shape.channels}, 2);
      const at::Tensor d_y = numbers(x.sizes(), 3, dtype), d_bias = at::empty_like(bias),
                       again = at::empty_like(x);
      const at::Tensor sums = scratch(shape.lines, shape.channels, 1);
      at::Tensor d_x = d_y.clone();  // in place
      BiasGeluBackward a;
      a.lines = shape.lines;
      a.channels = shape.channels;
      a.type = testing::dtype_of(dtype);
      a.x = x.const_data_ptr();
      a.bias = bias.const_data_ptr<float>();
      a.d_y = d_x.const_data_ptr();
      a.d_x = d_x.mutable_data_ptr();
      a.y = again.mutable_data_ptr();
      a.d_bias = d_bias.mutable_data_ptr<float>();
      a.scratch = sums.mutable_data_ptr<float>();
      in_any_order(d_bias, [&] {
        d_x.copy_(d_y);
        kernels().bias_gelu_backward(a, nullptr);
      });
      const at::Tensor wide = x.to(at::kCPU, at::kDouble).requires_grad_(),
                       wide_bias = bias.to(at::kCPU, at::kDouble).requires_grad_();
      const at::Tensor exact = at::gelu(wide + wide_bias);
      exact.backward(d_y.to(at::kCPU, at::kDouble));
      const double limit = dtype == at::kFloat ? 1e-6 : 3e-4;
      const at::Tensor y = forward(x, bias);
      EXPECT_LT(distance(y, exact.detach().to(dtype)), limit) << shape.channels;
      EXPECT_TRUE(at::equal(again, y)) << shape.channels;
      EXPECT_LT(distance(d_x, wide.grad().to(dtype)), limit) << shape.channels;
      EXPECT_LT(distance(d_bias, wide_bias.grad()), 2e-5) << "summed before it is rounded";
    }
  }
}

TEST_P(BiasGeluTest, IsAccurateEverywhereAndKeepsWhatIsNotANumber) {
  const at::Tensor x = at::cat({at::linspace(-12, 12, 20'001), at::logspace(-30, 3, 1000),
                                at::tensor({0.0F, -0.0F}), -at::logspace(-30, 3, 1000)})
                           .to(device())
                           .unsqueeze(0);
  const at::Tensor y = forward(x, at::zeros({x.numel()}, floats())).cpu(),
                   exact = at::gelu(x.cpu().to(at::kDouble));
  EXPECT_LT(((y - exact).abs() / x.cpu().abs().clamp_min(1)).max().item<double>(), 2e-7);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    EXPECT_TRUE(forward(at::full({2, 8}, NAN, floats()).to(dtype), at::zeros({8}, floats()))
                    .isnan()
                    .all()
                    .item<bool>());
}

COSUB_EMULATED_AND_ON_GPU(BiasGeluTest);

}  // namespace
}  // namespace cosub::kernels
