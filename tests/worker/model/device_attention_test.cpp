#include "worker/model/device_attention.h"

#include <gtest/gtest.h>

#include "tests/worker/kernels/kernel_rig.h"
#include "tests/worker/model/autocast_on.h"
#include "worker/model/fused_attention.h"
#include "worker/model/transformer_block.h"

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
    for (const at::Tensor& parameter : attention_.parameters()) {
      const at::NoGradGuard no_grad;
      parameter.copy_(numbers(parameter.sizes(), parameter.numel()).mul_(parameter.dim() == 2 ? 0.1 : 0.5));
    }
  }

  /// The result and the gradients of x and of all parameters.
  Tensors run(at::Device where, at::ScalarType dtype) {
    attention_.to(where, dtype);
    const at::Tensor x = numbers({3, 40, kDim}, 1).to(where, dtype).requires_grad_(),
                     y = attention_.forward(x);
    (y * numbers(y.sizes(), 7).to(y.options())).sum().backward();
    Tensors found = {y.detach(), x.grad()};
    for (at::Tensor parameter : attention_.parameters()) {
      found.push_back(parameter.grad().clone());
      parameter.mutable_grad().reset();
    }
    return found;
  }

  Attention attention_{kDim, kHeads};
};

TEST_P(AttentionByKernels, IsAsNearToFloat64AsLibTorchsUnderAutocast) {
  const Tensors exact = run(at::kCPU, at::kDouble);
  const AutocastOn scope(device());
  const Tensors ours = run(device(), at::kFloat);
  kernels::set_kernels(nullptr);
  const Tensors theirs = run(device(), at::kFloat);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    EXPECT_LT(distance(ours[i], exact[i]), 1.5 * distance(theirs[i], exact[i])) << i;
    EXPECT_EQ(ours[i].scalar_type(), theirs[i].scalar_type()) << i;
  }
}

TEST_P(AttentionByKernels, TakesBfloat16OfThatWidthWhereNoKernelIsNamed) {
  const at::Tensor x = numbers({3, 40, kDim}, 1), weight = numbers({3 * kDim, kDim}, 2),
                   bias = numbers({3 * kDim}, 3);
  EXPECT_FALSE(attends_by_kernels(x, weight, bias, kHeads)) << "float32";
  const AutocastOn scope(device());
  EXPECT_TRUE(attends_by_kernels(x, weight, bias, kHeads));
  EXPECT_FALSE(attends_by_kernels(x, weight, bias, 2 * kHeads)) << "width 32";
  EXPECT_FALSE(attends_by_kernels(x, weight, at::Tensor(), kHeads)) << "no bias";
  EXPECT_FALSE(attends_by_kernels(numbers({1, 209, kDim}, 1), weight, bias, kHeads)) << "too many tokens";
  set_attention_backend(config::AttentionBackend::kFlash, false);
  EXPECT_FALSE(attends_by_kernels(x, weight, bias, kHeads)) << "the stage names a kernel";
  set_attention_backend(config::AttentionBackend::kAuto, false);
  kernels::set_kernels(nullptr);
  EXPECT_FALSE(attends_by_kernels(x, weight, bias, kHeads)) << "no kernels";
}

TEST_P(AttentionByKernels, ATrialFindsGradientsThatAreNotLibTorchs) {
  const AttentionSizes sizes{2, 33, 1, 64};
  const at::Tensor like = numbers({1}, 1);
  const AttentionTrial trial = try_attention(sizes, like);
  EXPECT_LT(trial.distance, 0.03);
  EXPECT_TRUE(trial.is_right());
  EXPECT_GT(trial.our_seconds, 0);
  EXPECT_GT(trial.their_seconds, 0);

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
  for (const Call call : {other_scale, other_sums}) {
    kernels::Kernels others = kernels();
    others.attention_backward = call;
    kernels::set_kernels(&others);
    EXPECT_FALSE(try_attention(sizes, like).is_right());
  }
}

COSUB_EMULATED_AND_ON_GPU(AttentionByKernels);

}  // namespace
}  // namespace cosub::model
