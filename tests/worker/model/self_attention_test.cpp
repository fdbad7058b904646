#include "worker/model/self_attention.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "tests/worker/model/products.h"
#include "worker/model/attention_kernel.h"
#include "worker/model/cpu_products.h"

namespace cosub::model {
namespace {

using testing::distance;
using testing::Result;
using testing::run;

at::Tensor ours(const std::vector<at::Tensor>& in) {
  return self_attention(in[0]);
}
at::Tensor by_definition(const std::vector<at::Tensor>& in) {
  const at::Tensor parts = in[0].permute({2, 0, 3, 1, 4});
  const double scale = 1 / std::sqrt(static_cast<double>(in[0].size(4)));
  const at::Tensor weights = at::softmax(at::matmul(parts[0], parts[1].transpose(-2, -1)) * scale, -1);
  return at::matmul(weights, parts[2]).transpose(1, 2).flatten(2);
}

/// qkv [rows, tokens, 3, heads, width]
struct Sizes {
  std::int64_t rows, tokens, heads, width;
};

class SelfAttention : public ::testing::TestWithParam<Sizes> {
 protected:
  at::Tensor draw(at::ScalarType type) const {
    const Sizes& sizes = GetParam();
    at::manual_seed(5);
    return at::randn({sizes.rows, sizes.tokens, 3, sizes.heads, sizes.width}, type) * 2;
  }
};

TEST_P(SelfAttention, IsItsDefinitionInFloat32) {
  const at::Tensor qkv = draw(at::kFloat);
  const Result mine = run(ours, {qkv}), exact = run(by_definition, {qkv.to(at::kDouble)});
  EXPECT_LT(distance(mine.output, exact.output), 1e-6);
  EXPECT_LT(distance(mine.gradients[0], exact.gradients[0]), 1e-6);
}

TEST_P(SelfAttention, IsItsDefinitionInFloat64) {
  const at::Tensor qkv = draw(at::kDouble);
  const Result mine = run(ours, {qkv}), exact = run(by_definition, {qkv});
  EXPECT_LT(distance(mine.output, exact.output), 1e-14);
  EXPECT_LT(distance(mine.gradients[0], exact.gradients[0]), 1e-14);
}

/// Of operands that are bfloat16: the weights in float32, what comes out rounded once.
TEST_P(SelfAttention, InBfloat16RoundsItsResultsAlone) {
  if (attention_kernel_for(GetParam().width) == nullptr)
    GTEST_SKIP() << "LibTorch's, on this CPU or of this width";
  const at::Tensor qkv = draw(at::kFloat).to(at::kBFloat16);
  const Result mine = run(ours, {qkv}), exact = run(by_definition, {qkv.to(at::kDouble)});
  EXPECT_LT(distance(mine.output, exact.output), 3e-3);
  EXPECT_EQ(self_attention(qkv).scalar_type(), at::kBFloat16);
  EXPECT_EQ(mine.gradients[0].scalar_type(), at::kBFloat16);
  // LibTorch rounds the gradient of the output, as the loss gives it, before anything else.
  EXPECT_LT(distance(mine.gradients[0], exact.gradients[0]), 6e-3);
}

TEST_P(SelfAttention, GivesTheSameBitsForAnyNumberOfThreads) {
  const at::Tensor qkv = draw(at::kFloat);
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Result one = run(ours, {qkv});
  at::set_num_threads(3);
  const Result three = run(ours, {qkv});
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(one.output, three.output));
  EXPECT_TRUE(at::equal(one.gradients[0], three.gradients[0]));
}

/// As an evaluation runs it; the mode is each thread's own.
TEST_P(SelfAttention, RunsInInferenceModeOnSeveralThreads) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const at::Tensor qkv = draw(type);
    const at::Tensor wanted = self_attention(qkv);
    const int before = at::get_num_threads();
    at::set_num_threads(3);
    {
      const c10::InferenceMode inference;
      EXPECT_LT(distance(self_attention(qkv.clone()), wanted), 1e-6);
    }
    at::set_num_threads(before);
  }
}

TEST_P(SelfAttention, OfAFewQueriesIsThatOfTheFirstTokens) {
  const std::int64_t queries = std::min<std::int64_t>(2, GetParam().tokens), heads = GetParam().heads;
  const auto of_queries = [&](const std::vector<at::Tensor>& in) {
    const std::vector<at::Tensor> parts = in[0].flatten(3).unbind(2);
    return attention_of_queries(parts[0].narrow(1, 0, queries), parts[1], parts[2], heads);
  };
  const auto first_of_all = [&](const std::vector<at::Tensor>& in) {
    return by_definition(in).narrow(1, 0, queries);
  };
  const at::Tensor qkv = draw(at::kDouble);
  const Result mine = run(of_queries, {qkv}), exact = run(first_of_all, {qkv});
  EXPECT_LT(distance(mine.output, exact.output), 1e-14);
  EXPECT_LT(distance(mine.gradients[0], exact.gradients[0]), 1e-14);
}

// One token; a tile's edges; widths with and without a kernel; rows so long that queries come in blocks.
INSTANTIATE_TEST_SUITE_P(Sizes, SelfAttention,
                         ::testing::Values(Sizes{2, 1, 2, 16}, Sizes{3, 17, 2, 64}, Sizes{2, 197, 3, 64},
                                           Sizes{1, 50, 4, 48}, Sizes{2, 33, 2, 24}, Sizes{2, 33, 2, 20},
                                           Sizes{1, 700, 2, 32}));

TEST(SelfAttentionScores, OfAnySizeDoNotOverflow) {
  at::Tensor qkv = at::randn({1, 20, 3, 2, 16}) * 100;
  const Result mine = run(ours, {qkv}), exact = run(by_definition, {qkv.to(at::kDouble)});
  EXPECT_LT(distance(mine.output, exact.output), 1e-5);
  EXPECT_TRUE(mine.gradients[0].isfinite().all().item<bool>());
}

TEST(SelfAttentionScores, ThatAreNotANumberStayOne) {
  at::Tensor qkv = at::randn({2, 20, 3, 2, 16});
  qkv[1][7][0][0][3] = NAN;  // a query of the second row's first head
  const at::Tensor out = self_attention(qkv);
  EXPECT_TRUE(out[0].isfinite().all().item<bool>());
  EXPECT_TRUE(out[1][7].narrow(0, 0, 16).isnan().all().item<bool>());
}

TEST(SelfAttentionUnderAutocast, IsThatOfRoundedOperands) {
  at::manual_seed(4);
  const RoundingWhateverTheCpu rounding;
  const std::vector<at::Tensor> values = {at::randn({2, 19, 3, 3, 16}).to(at::kBFloat16).to(at::kFloat)};
  const Result mine = run(ours, values, true), exact = run(by_definition, values);
  EXPECT_TRUE(at::equal(mine.output, mine.output.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_LT(distance(mine.output, exact.output), 3e-3);
  EXPECT_EQ(mine.output.scalar_type(), at::kFloat);
}

TEST(SelfAttentionUnderAutocast, OfAFewQueriesIsOfRoundedOperandsToo) {
  at::manual_seed(4);
  const RoundingWhateverTheCpu rounding;
  const at::Tensor qkv = at::randn({2, 19, 3, 3, 16}).to(at::kBFloat16).to(at::kFloat);
  const auto of_one = [](const std::vector<at::Tensor>& in) {
    const std::vector<at::Tensor> parts = in[0].flatten(3).unbind(2);
    return attention_of_queries(parts[0].narrow(1, 0, 1), parts[1], parts[2], 3);
  };
  const Result mine = run(of_one, {qkv}, true), all = run(by_definition, {qkv});
  EXPECT_TRUE(at::equal(mine.output, mine.output.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_LT(distance(mine.output, all.output.narrow(1, 0, 1)), 3e-3);
  EXPECT_EQ(mine.output.scalar_type(), at::kFloat);
}

/// What the kernel makes of qkv [rows, tokens, 3, heads, width] and of a gradient of its output.
Result of_kernel(const AttentionKernel& kernel, const at::Tensor& qkv, const at::Tensor& d_out) {
  const std::int64_t heads = qkv.size(3), width = qkv.size(4), dim = heads * width;
  const HeadShape shape = {qkv.size(1), width, 3 * dim, dim, 1 / std::sqrt(static_cast<float>(width))};
  const at::Tensor out = at::full_like(d_out, NAN), d_qkv = at::full_like(qkv, NAN);
  std::vector<float> scratch(static_cast<std::size_t>(kernel.scratch(shape)), NAN);
  for (std::int64_t i = 0; i < qkv.size(0) * heads; ++i) {
    const std::int64_t first = i / heads * shape.tokens * 3 * dim + i % heads * width;
    const std::int64_t first_out = i / heads * shape.tokens * dim + i % heads * width;
    const float* q = qkv.const_data_ptr<float>() + first;
    float* d_q = d_qkv.mutable_data_ptr<float>() + first;
    kernel.forward(shape, q, q + dim, q + 2 * dim, out.mutable_data_ptr<float>() + first_out, scratch.data());
    kernel.backward(shape, q, q + dim, q + 2 * dim, d_out.const_data_ptr<float>() + first_out, d_q, d_q + dim,
                    d_q + 2 * dim, scratch.data());
  }
  return {out, {d_qkv}};
}

TEST_P(SelfAttention, IsItsDefinitionInEveryKernelOfThisProcessor) {
  const at::Tensor qkv = draw(at::kFloat);
  const at::Tensor exact_qkv = qkv.to(at::kDouble).requires_grad_();
  const at::Tensor exact = by_definition({exact_qkv}), d_out = at::randn(exact.sizes(), at::kFloat);
  exact.backward(d_out.to(at::kDouble));
  for (const AttentionKernel* kernel : attention_kernels()) {
    if (GetParam().width % kernel->lanes != 0) continue;
    SCOPED_TRACE(kernel->lanes);
    const Result found = of_kernel(*kernel, qkv, d_out);
    EXPECT_LT(distance(found.output, exact.detach()), 1e-6);
    EXPECT_LT(distance(found.gradients[0], exact_qkv.grad()), 1e-6);
  }
}

TEST(SelfAttentionKernel, IsTheFastestThatTakesTheWidth) {
  const bool has_avx512 = __builtin_cpu_supports("avx512vl"), has_avx2 = __builtin_cpu_supports("avx2");
  EXPECT_EQ(attention_kernels().size(), std::size_t{has_avx512} + std::size_t{has_avx2});
  EXPECT_EQ(attention_kernel_for(20), nullptr);
  if (!has_avx2) return;
  EXPECT_EQ(attention_kernel_for(24)->lanes, 8);
  EXPECT_EQ(attention_kernel_for(64)->lanes, has_avx512 ? 16 : 8);
}

}  // namespace
}  // namespace cosub::model
