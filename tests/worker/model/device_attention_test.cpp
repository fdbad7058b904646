#include "worker/model/device_attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/worker/kernels/kernel_rig.h"
#include "tests/worker/model/autocast_on.h"
#include "worker/model/fused_attention.h"

namespace cosub::model {
namespace {

using testing::AutocastOn;
using testing::distance;
using Tensors = std::vector<at::Tensor>;

class AttentionByKernels : public testing::KernelTest {
 protected:
  static constexpr std::int64_t kDim = 128, kHeads = 2;

  void SetUp() override {
    KernelTest::SetUp();
    if (!IsSkipped() && kernels().attention_backward == nullptr)
      GTEST_SKIP() << "this GPU has not the products that the kernel is made of";
  }

  /// Attention in a projection's three results: the result and the gradients of x, weight and bias.
  Tensors run(at::IntArrayRef sizes, at::Device where, at::ScalarType dtype, AttentionBy by) const {
    const std::int64_t dim = sizes[2];
    const auto leaf = [&](at::IntArrayRef of, double scale) {
      return numbers(of, of[0]).mul(scale).to(where, dtype).requires_grad_();
    };
    const Tensors leaves = {leaf(sizes, 1), leaf({3 * dim, dim}, 0.1), leaf({3 * dim}, 0.5)};
    at::Tensor y;
    if (by == AttentionBy::kLibTorch) {
      const at::Tensor parts = at::linear(leaves[0], leaves[1], leaves[2])
                                   .view({sizes[0], sizes[1], 3, kHeads, dim / kHeads})
                                   .permute({2, 0, 3, 1, 4});
      y = fused_attention(parts[0], parts[1], parts[2]).transpose(1, 2).flatten(2);
    } else {
      y = attention_by_kernels(leaves[0], leaves[1], leaves[2], kHeads, by);
    }
    (y * numbers(y.sizes(), 7).to(y.options())).sum().backward();
    Tensors found = {y.detach()};
    for (const at::Tensor& of : leaves) found.push_back(of.grad());
    return found;
  }
};

TEST_P(AttentionByKernels, IsAsNearToFloat64AsLibTorchsUnderAutocast) {
  for (const std::vector<std::int64_t>& sizes : {std::vector<std::int64_t>{3, 40, kDim}, {1, 257, 160}}) {
    const Tensors exact = run(sizes, at::kCPU, at::kDouble, AttentionBy::kLibTorch);
    const AutocastOn scope(device());
    const Tensors theirs = run(sizes, device(), at::kFloat, AttentionBy::kLibTorch);
    for (const AttentionBy by : {AttentionBy::kOurGradients, AttentionBy::kOurs}) {
      if (by == AttentionBy::kOurs && sizes[1] < 193) continue;
      const Tensors ours = run(sizes, device(), at::kFloat, by);
      for (std::size_t i = 0; i < exact.size(); ++i) {
        EXPECT_LT(distance(ours[i], exact[i]), 1.5 * distance(theirs[i], exact[i])) << sizes[1] << ' ' << i;
        EXPECT_EQ(ours[i].scalar_type(), theirs[i].scalar_type()) << i;
      }
    }
  }
}

TEST_P(AttentionByKernels, TakesBfloat16OfThatWidthWhereNoKernelIsNamed) {
  const at::Tensor x = numbers({3, 40, kDim}, 1), weight = numbers({3 * kDim, kDim}, 2),
                   bias = numbers({3 * kDim}, 3);
  const auto by_ours = [&](const at::Tensor& of_x, const at::Tensor& of_bias, std::int64_t heads) {
    return attention_by(of_x, weight, of_bias, heads) != AttentionBy::kLibTorch;
  };
  EXPECT_FALSE(by_ours(x, bias, kHeads)) << "float32";
  const AutocastOn scope(device());
  if (GetParam() == testing::Where::kEmulated) {  // a GPU takes what is faster there
    EXPECT_EQ(attention_by(x, weight, bias, kHeads), AttentionBy::kOurGradients);
    EXPECT_EQ(attention_by(numbers({1, 197, kDim}, 1), weight, bias, kHeads), AttentionBy::kOurs);
  }
  EXPECT_FALSE(by_ours(x, bias, 2 * kHeads)) << "width 32";
  EXPECT_FALSE(by_ours(x, at::Tensor(), kHeads)) << "no bias";
  EXPECT_FALSE(by_ours(numbers({1, 209, kDim}, 1), bias, kHeads)) << "too many tokens";
  set_attention_backend(config::AttentionBackend::kFlash, false);
  EXPECT_FALSE(by_ours(x, bias, kHeads)) << "the stage names a kernel";
  set_attention_backend(config::AttentionBackend::kAuto, false);
  kernels::set_kernels(nullptr);
  EXPECT_FALSE(by_ours(x, bias, kHeads)) << "no kernels";
}

TEST(BestAttention, IsTheFastestRightOne) {
  const AttentionTrial theirs{AttentionBy::kLibTorch, 1.0, 0, true};
  AttentionTrial gradients{AttentionBy::kOurGradients, 0.8, 0.01, true},
      all{AttentionBy::kOurs, 0.7, 0.01, true};
  EXPECT_EQ(best_of({theirs, gradients, all}), AttentionBy::kOurs);
  all.distance = NAN;
  EXPECT_EQ(best_of({theirs, gradients, all}), AttentionBy::kOurGradients);
  gradients.repeats = false;
  EXPECT_EQ(best_of({theirs, gradients, all}), AttentionBy::kLibTorch);
  gradients = {AttentionBy::kOurGradients, 0.97, 0.01, true};
  EXPECT_EQ(best_of({theirs, gradients}), AttentionBy::kLibTorch) << "not clearly faster";
}

TEST_P(AttentionByKernels, ATrialFindsWhatIsNotLikeLibTorchs) {
  const kernels::AttentionSizes sizes{1, 194, 1, 64};
  const at::Tensor like = numbers({1}, 1);
  const std::vector<AttentionTrial> trials = try_attention(sizes, like);
  ASSERT_EQ(trials.size(), 3);
  for (const AttentionTrial& trial : trials) {
    EXPECT_LT(trial.distance, 0.03);
    EXPECT_TRUE(trial.is_right());
    EXPECT_GT(trial.seconds, 0);
  }

  static const kernels::Kernels* right;
  right = &kernels();
  using Call = void (*)(const kernels::AttentionBackward&, kernels::Stream);
  const Call other_scale = [](const kernels::AttentionBackward& a, kernels::Stream stream) {
    kernels::AttentionBackward wrong = a;
    wrong.scale *= 2;
    right->attention_backward(wrong, stream);
  };
  const Call other_sums = [](const kernels::AttentionBackward& a, kernels::Stream stream) {
    kernels::AttentionBackward wrong = a, without_sums = a;
    wrong.scale *= 2;
    right->attention_backward(wrong, stream);
    without_sums.sums = without_sums.scratch = nullptr;
    right->attention_backward(without_sums, stream);
  };
  const Call nothing = [](const kernels::AttentionBackward&, kernels::Stream) {};
  for (const Call call : {other_scale, other_sums, nothing}) {
    kernels::Kernels others = kernels();
    others.attention_backward = call;
    kernels::set_kernels(&others);
    for (const std::size_t i : {1, 2}) EXPECT_FALSE(try_attention(sizes, like).at(i).is_right());
  }
  using ResultCall = void (*)(const kernels::AttentionForward&, kernels::Stream);
  const ResultCall other_result = [](const kernels::AttentionForward& a, kernels::Stream stream) {
    kernels::AttentionForward wrong = a;
    wrong.scale *= 2;
    right->attention(wrong, stream);
  };
  const ResultCall no_result = [](const kernels::AttentionForward&, kernels::Stream) {};
  for (const ResultCall call : {other_result, no_result}) {
    kernels::Kernels others = kernels();
    others.attention = call;
    kernels::set_kernels(&others);
    const std::vector<AttentionTrial> tried = try_attention(sizes, like);
    EXPECT_TRUE(tried.at(1).is_right());
    EXPECT_FALSE(tried.at(2).is_right());
  }
}

COSUB_EMULATED_AND_ON_GPU(AttentionByKernels);

}  // namespace
}  // namespace cosub::model
