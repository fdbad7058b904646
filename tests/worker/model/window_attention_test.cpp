// The form of Swin's attention that a GPU gets, on the CPU, beside the one that a CPU gets.
#include "worker/model/window_attention.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <cmath>
#include <tuple>

namespace cosub::model {
namespace {

struct Attended {
  at::Tensor out, d_qkv, d_bias;
};

Attended attend(bool folds, std::int64_t biases, at::ScalarType type) {
  at::manual_seed(7);
  constexpr std::int64_t kImages = 3, kWindows = 4, kHeads = 2, kArea = 9, kHeadDim = 5;
  // As the layer makes it: interleaved, then permuted.
  at::Tensor values = at::randn({kImages, kWindows, kArea, 3, kHeads, kHeadDim}, type);
  at::Tensor bias = at::randn({biases, kHeads, kArea, kArea}, type);
  const at::Tensor weight = at::randn({kImages, kWindows, kHeads, kArea, kHeadDim}, type);
  values.requires_grad_();
  bias.requires_grad_();
  const at::Tensor out = window_attention(values.permute({3, 0, 1, 4, 2, 5}), bias, folds);
  const auto grads = torch::autograd::grad({(out * weight).sum()}, {values, bias});
  return {out.detach(), grads[0], grads[1]};
}

class WindowAttentionTest : public ::testing::TestWithParam<std::int64_t> {};  // how many biases

TEST_P(WindowAttentionTest, FoldedIsTheSame) {
  const Attended apart = attend(false, GetParam(), at::kDouble),
                 folded = attend(true, GetParam(), at::kDouble);
  EXPECT_EQ(apart.out.sizes(), folded.out.sizes());
  for (const auto& [a, b] : {std::tie(apart.out, folded.out), std::tie(apart.d_qkv, folded.d_qkv),
                             std::tie(apart.d_bias, folded.d_bias)})
    EXPECT_LT((a - b).abs().max().item<double>(), 1e-12);
}

INSTANTIATE_TEST_SUITE_P(OneBiasAndOneForEachWindow, WindowAttentionTest, ::testing::Values(1, 4));

TEST(WindowAttention, EachWindowMeetsItsOwnBias) {
  at::manual_seed(8);
  const at::Tensor qkv = at::randn({3, 2, 2, 1, 4, 6}, at::kDouble);
  const at::Tensor bias = at::randn({2, 1, 4, 4}, at::kDouble);
  for (const bool folds : {false, true}) {
    const at::Tensor out = window_attention(qkv, bias, folds);
    for (std::int64_t image = 0; image < 2; ++image) {
      for (std::int64_t window = 0; window < 2; ++window) {
        const auto part = [&](std::int64_t i) { return qkv[i][image][window][0]; };
        const at::Tensor weights =
            at::softmax(part(0).matmul(part(1).t()) / std::sqrt(6.0) + bias[window][0], -1);
        EXPECT_LT((out[image][window][0] - weights.matmul(part(2))).abs().max().item<double>(), 1e-12);
      }
    }
  }
}

}  // namespace
}  // namespace cosub::model
