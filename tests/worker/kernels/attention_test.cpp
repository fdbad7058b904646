#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/worker/kernels/kernel_rig.h"

namespace cosub::kernels {
namespace {

using testing::distance;

class AttentionTest : public testing::KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (!IsSkipped() && (kernels().attention == nullptr || kernels().attention_backward == nullptr))
      GTEST_SKIP() << "this GPU has not the products that the kernel is made of";
  }

  /// Without the pattern that `numbers` have, under which roundings add up.
  at::Tensor noise(at::IntArrayRef sizes, std::uint64_t seed) const {
    return at::randn(sizes, at::detail::createCPUGenerator(seed), at::dtype(at::kFloat))
        .to(device(), at::kBFloat16);
  }

  /// Of queries, keys and values in float64, [rows, tokens, 3, heads, width], where the bfloat16 tensors'
  /// numbers are taken as they are.
  static at::Tensor exact_gradient(const at::Tensor& qkv, const at::Tensor& d_out) {
    const at::Tensor leaf = qkv.to(at::kCPU, at::kDouble).requires_grad_();
    const std::vector<at::Tensor> parts = leaf.permute({2, 0, 3, 1, 4}).unbind(0);
    const at::Tensor weights = (at::matmul(parts[0], parts[1].transpose(2, 3)) * scale(qkv)).softmax(-1);
    at::matmul(weights, parts[2]).transpose(1, 2).backward(d_out.to(at::kCPU, at::kDouble));
    return leaf.grad();
  }
  static double scale(const at::Tensor& qkv) { return 1 / std::sqrt(static_cast<double>(qkv.size(4))); }

  /// What a forward pass leaves: the result, and ln of each query's sum.
  static std::pair<at::Tensor, at::Tensor> forward(const at::Tensor& qkv, at::ScalarType dtype = at::kFloat) {
    const std::vector<at::Tensor> parts = qkv.to(dtype).permute({2, 0, 3, 1, 4}).unbind(0);
    const at::Tensor scores = at::matmul(parts[0], parts[1].transpose(2, 3)) * scale(qkv);
    const at::Tensor out = at::matmul(scores.softmax(-1), parts[2]).transpose(1, 2);
    return {out.to(dtype == at::kFloat ? at::kBFloat16 : dtype).contiguous(),
            scores.logsumexp(-1).contiguous()};
  }

  /// What both kernels have.
  template <typename Arguments>
  static Arguments arguments_of(const at::Tensor& qkv) {
    Arguments a;
    a.rows = qkv.size(0);
    a.tokens = qkv.size(1);
    a.heads = qkv.size(3);
    a.width = qkv.size(4);
    a.scale = static_cast<float>(scale(qkv));
    a.qkv = qkv.const_data_ptr();
    return a;
  }

  /// Without sums. The tensors must outlive what is done with it.
  static AttentionBackward arguments(const at::Tensor& qkv, const at::Tensor& out, const at::Tensor& d_out,
                                     const at::Tensor& log_sums, const at::Tensor& d_qkv) {
    auto a = arguments_of<AttentionBackward>(qkv);
    a.out = out.const_data_ptr();
    a.d_out = d_out.const_data_ptr();
    a.log_sums = log_sums.const_data_ptr<float>();
    a.d_qkv = d_qkv.mutable_data_ptr();
    return a;
  }
};

TEST_P(AttentionTest, ResultsAreThoseOfFloat64) {
  std::vector<AttentionSizes> shapes = {{3, 257, 1, 80}, {1, 256, 2, 80}, {1, 193, 1, 80},
                                        {5, 197, 1, 64}, {1, 257, 1, 64}, {0, 200, 2, 64}};
  if (GetParam() == testing::Where::kGpu)  // head after head in a block, which the emulator does with fewer
    shapes.insert(shapes.end(), {{20, 257, 16, 80}, {40, 200, 8, 80}, {50, 197, 12, 64}});
  for (const AttentionSizes& shape : shapes) {
    SCOPED_TRACE(::testing::Message() << shape.tokens << " tokens, heads of " << shape.width);
    for (const double offset : {0.0, 5.0}) {  // 5: scores of -360 and below
      const at::Tensor qkv = noise({shape.rows, shape.tokens, 3, shape.heads, shape.width}, 5);
      qkv.select(2, 0).add_(offset);
      qkv.select(2, 1).sub_(2 * offset);
      const at::Tensor out = at::full_like(qkv.select(2, 0), NAN).contiguous(),
                       log_sums = at::full({shape.rows, shape.heads, shape.tokens}, NAN, floats());
      auto a = arguments_of<AttentionForward>(qkv);
      a.out = out.mutable_data_ptr();
      a.log_sums = log_sums.mutable_data_ptr<float>();
      in_any_order(out, [&] { kernels().attention(a, nullptr); });
      if (shape.rows == 0) continue;
      const auto [exact, exact_sums] = forward(qkv.to(at::kCPU, at::kDouble), at::kDouble);
      EXPECT_LT(distance(out, exact), 0.005);
      EXPECT_LT(distance(out.select(1, shape.tokens - 1), exact.select(1, shape.tokens - 1)), 0.005);
      EXPECT_LT((log_sums.to(at::kCPU, at::kDouble) - exact_sums).abs().max().item<double>(), 1e-3);
    }
  }
}

TEST_P(AttentionTest, GradientsAreThoseOfFloat64) {
  std::vector<AttentionSizes> shapes = {{2, 197, 2, 64}, {1, 208, 1, 64}, {1, 2, 3, 64},   {3, 65, 1, 64},
                                        {3, 50, 4, 64},  {2, 112, 3, 64}, {2, 145, 2, 64}, {0, 20, 2, 64},
                                        {3, 257, 1, 80}, {1, 256, 2, 80}, {1, 193, 1, 80}};
  if (GetParam() == testing::Where::kGpu)  // head after head in a block, which the emulator does with fewer
    shapes.insert(shapes.end(), {{50, 197, 12, 64},
                                 {100, 145, 6, 64},
                                 {100, 112, 12, 64},
                                 {100, 50, 12, 64},
                                 {20, 257, 16, 80},
                                 {40, 200, 8, 80}});
  for (const AttentionSizes& shape : shapes) {
    const at::Tensor qkv = noise({shape.rows, shape.tokens, 3, shape.heads, shape.width}, 1),
                     d_out = noise({shape.rows, shape.tokens, shape.heads, shape.width}, 2),
                     d_qkv = at::full_like(qkv, NAN);
    const auto [out, log_sums] = forward(qkv);
    AttentionBackward a = arguments(qkv, out, d_out, log_sums, d_qkv);
    const at::Tensor sums = at::full({3, shape.heads, shape.width}, NAN, floats()),
                     between = at::full({shape.rows, 3, shape.heads, shape.width}, NAN, floats());
    kernels().attention_backward(a, nullptr);
    const at::Tensor without_sums = d_qkv.clone();
    a.sums = sums.mutable_data_ptr<float>();
    a.scratch = between.mutable_data_ptr<float>();
    in_any_order(d_qkv, [&] { kernels().attention_backward(a, nullptr); });
    in_any_order(sums, [&] { kernels().attention_backward(a, nullptr); });
    EXPECT_TRUE(at::equal(d_qkv, without_sums));
    const at::Tensor sums_written = d_qkv.to(at::kCPU, at::kDouble).sum(at::IntArrayRef({0, 1})),
                     sums_of_results = d_out.to(at::kCPU, at::kDouble).sum(at::IntArrayRef({0, 1}));
    SCOPED_TRACE(::testing::Message() << shape.tokens << " tokens, heads of " << shape.width);
    EXPECT_LT(distance(sums[0], sums_written[0]), 5e-5);
    // Weights of a query sum to 1.
    EXPECT_LT(distance(sums[2], shape.width == 80 ? sums_of_results : sums_written[2]), 5e-5);
    EXPECT_EQ(sums[1].abs().max().item<float>(), 0);
    if (shape.rows == 0) continue;
    const at::Tensor exact = exact_gradient(qkv, d_out);
    for (std::int64_t part = 0; part < 3; ++part)
      EXPECT_LT(distance(d_qkv.select(2, part), exact.select(2, part)), 0.01) << "part " << part;
    const at::Tensor last = d_qkv.select(1, shape.tokens - 1), exact_last = exact.select(1, shape.tokens - 1);
    EXPECT_LT(distance(last, exact_last), 0.02) << "last token";
  }
}

TEST_P(AttentionTest, ScoresFarBelowZeroAreLikeOthers) {
  for (const auto& [tokens, width] : {std::pair{5, 64}, {197, 64}, {200, 80}, {257, 80}}) {
    const at::Tensor qkv = noise({1, tokens, 3, 1, width}, 3), d_out = noise({1, tokens, 1, width}, 4),
                     d_qkv = at::full_like(qkv, NAN);
    qkv.select(2, 0).fill_(5);  // scores of -200 all
    qkv.select(2, 1).fill_(-5);
    const auto [out, log_sums] = forward(qkv);
    kernels().attention_backward(arguments(qkv, out, d_out, log_sums, d_qkv), nullptr);
    EXPECT_TRUE(d_qkv.isfinite().all().item<bool>()) << tokens << " tokens";
    EXPECT_LT(distance(d_qkv.select(2, 2), exact_gradient(qkv, d_out).select(2, 2)), 0.01);
  }
}

TEST_P(AttentionTest, OthersAreRefused) {
  for (const auto& [tokens, width] : {std::pair{209, 64}, {258, 80}, {192, 80}, {10, 48}}) {
    AttentionBackward a;
    a.tokens = tokens;
    a.width = width;
    EXPECT_THROW(kernels().attention_backward(a, nullptr), std::invalid_argument) << tokens << ' ' << width;
  }
  for (const auto& [tokens, width] : {std::pair{192, 64}, {258, 80}, {200, 48}}) {
    AttentionForward a;
    a.tokens = tokens;
    a.width = width;
    EXPECT_THROW(kernels().attention(a, nullptr), std::invalid_argument) << tokens << ' ' << width;
  }
}

COSUB_EMULATED_AND_ON_GPU(AttentionTest);

}  // namespace
}  // namespace cosub::kernels
