// On a CPU, where LibTorch has two kernels to choose from: its flash attention and products.
#include "worker/model/attention_tuner.h"

#include <ATen/Context.h>
#include <c10/core/InferenceMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

namespace cosub::model {
namespace {

using at::SDPBackend;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr SDPBackend kFlash = SDPBackend::flash_attention, kMath = SDPBackend::math,
                     kCudnn = SDPBackend::cudnn_attention;

/// Inputs of one call, which refers to them.
struct Inputs {
  explicit Inputs(std::int64_t rows = 2, std::int64_t tokens = 7)
      : q(at::randn({rows, 3, tokens, 8})), k(at::randn_like(q)), v(at::randn_like(q)) {}
  AttentionCall call() const { return {q, k, v, bias}; }

  at::Tensor q, k, v, bias;
};

/// A tuner by given times instead of measured ones.
class AttentionTunerTest : public ::testing::Test {
 protected:
  AttentionTuner tuner(std::vector<SDPBackend> preference) {
    return AttentionTuner(std::move(preference), [this](const AttentionCall& /*call*/, SDPBackend backend) {
      ++num_measured_;
      return backend == kFlash ? 1.0 : math_seconds_;
    });
  }

  int num_measured_ = 0;
  double math_seconds_ = 0.5;
};

TEST_F(AttentionTunerTest, ChoosesTheFastest) {
  EXPECT_EQ(tuner({kFlash, kMath}).choose(Inputs().call()), kMath);
  math_seconds_ = 2;
  EXPECT_EQ(tuner({kFlash, kMath}).choose(Inputs().call()), kFlash);
}

TEST_F(AttentionTunerTest, KeepsToTheFirstUnlessAnotherIsClearlyFaster) {
  math_seconds_ = 0.97;
  EXPECT_EQ(tuner({kFlash, kMath}).choose(Inputs().call()), kFlash);
}

TEST_F(AttentionTunerTest, MeasuresAShapeOnceHoweverManyRowsComeLater) {
  AttentionTuner made = tuner({kFlash, kMath});
  made.choose(Inputs(2).call());
  EXPECT_EQ(num_measured_, 2);
  math_seconds_ = 2;
  EXPECT_EQ(made.choose(Inputs(5).call()), kMath);
  EXPECT_EQ(num_measured_, 2);
  EXPECT_EQ(made.choose(Inputs(2, /*tokens=*/9).call()), kFlash);
  EXPECT_EQ(num_measured_, 4);
}

TEST_F(AttentionTunerTest, LeavesOutWhatCannotComputeTheCall) {
  EXPECT_EQ(tuner({kCudnn, kMath}).choose(Inputs().call()), kMath);
  EXPECT_EQ(tuner({kCudnn}).choose(Inputs().call()), std::nullopt);
}

TEST_F(AttentionTunerTest, LeavesOutWhatThrowsWhenItIsTried) {
  const auto flash_throws = [](const AttentionCall& /*call*/, SDPBackend backend) {
    if (backend == kFlash) throw std::runtime_error("no execution plan");
    return 1.0;
  };
  EXPECT_EQ(AttentionTuner({kFlash, kMath}, flash_throws).choose(Inputs().call()), kMath);
  EXPECT_EQ(AttentionTuner({kFlash}, flash_throws).choose(Inputs().call()), std::nullopt);
}

TEST_F(AttentionTunerTest, MeasuresAgainInInferenceModeWhereOtherKernelsMayDo) {
  AttentionTuner made = tuner({kFlash, kMath});
  made.choose(Inputs().call());
  math_seconds_ = 2;
  const c10::InferenceMode inference;
  EXPECT_EQ(made.choose(Inputs().call()), kFlash);
}

TEST_F(AttentionTunerTest, AttendsWithABiasOfAnotherDtypeAndLayout) {
  Inputs in;
  at::Tensor table = at::randn({7, 7, 3}, at::kDouble).requires_grad_();
  in.bias = table.permute({2, 0, 1}).unsqueeze(0);
  const at::Tensor out = tuner({kFlash, kMath}).attend(in.call());
  const at::Tensor weights = at::softmax(at::matmul(in.q, in.k.mT()) / std::sqrt(8.0) + in.bias, -1);
  EXPECT_EQ(out.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::allclose(out, at::matmul(weights, in.v.to(at::kDouble)).to(at::kFloat), 1e-5, 1e-6));
  out.sum().backward();
  EXPECT_GT(table.grad().abs().max().item<double>(), 0);
}

TEST(AttentionBackends, AreUsableWhereTheyGiveAllGradients) {
  Inputs in;
  EXPECT_THAT(usable_backends(in.call(), {kCudnn, kFlash, kMath}), ElementsAre(kFlash, kMath));
  in.bias = at::randn({1, 3, 7, 7});  // whose gradient flash attention does not give
  EXPECT_THAT(usable_backends(in.call(), {kFlash, kMath}), ElementsAre(kMath));
  EXPECT_THAT(usable_backends(in.call(), {kFlash}), IsEmpty());
}

TEST(AttentionBackends, AreTakenInTheOrderInWhichTheyAreNamed) {
  const Inputs in;
  const OnlyBackends only({kCudnn, kMath, kFlash, kMath});
  EXPECT_THAT(at::globalContext().sDPPriorityOrder(),
              ElementsAre(kCudnn, kMath, kFlash, SDPBackend::efficient_attention, SDPBackend::overrideable));
  EXPECT_FALSE(at::globalContext().userEnabledMemEfficientSDP());
}

TEST(AttentionBackends, AreUsableAlikeWithAndWithoutGradients) {
  Inputs in;
  in.bias = at::randn({1, 3, 7, 7});
  const at::NoGradGuard no_grad;
  EXPECT_THAT(usable_backends(in.call(), {kFlash, kMath}), ElementsAre(kMath));
}

TEST(AttentionBackends, AreTimedWithoutATraceOfIt) {
  Inputs in;
  in.q.requires_grad_();
  for (const SDPBackend backend : {kFlash, kMath}) EXPECT_GT(seconds_of(in.call(), backend), 0);
  EXPECT_FALSE(in.q.grad().defined());
  const c10::InferenceMode inference;
  EXPECT_GT(seconds_of(Inputs().call(), kFlash), 0);
}

TEST(AttentionBackends, AloneAreTakenAndOthersAllowedAgainAfterwards) {
  at::Context& context = at::globalContext();
  const auto order = context.sDPPriorityOrder();
  const Inputs in;
  {
    const OnlyBackends only({kMath});
    EXPECT_EQ(at::_fused_sdp_choice(in.q, in.k, in.v), static_cast<std::int64_t>(kMath));
    const at::Tensor out = attend(in.call());
    const at::Tensor weights = at::softmax(at::matmul(in.q, in.k.mT()) / std::sqrt(8.0), -1);
    EXPECT_TRUE(at::allclose(out, at::matmul(weights, in.v), 1e-5, 1e-6));
  }
  EXPECT_EQ(at::_fused_sdp_choice(in.q, in.k, in.v), static_cast<std::int64_t>(kFlash));
  EXPECT_EQ(context.sDPPriorityOrder(), order);
  EXPECT_TRUE(context.userEnabledCuDNNSDP() && context.userEnabledMemEfficientSDP());
}

}  // namespace
}  // namespace cosub::model
