#include "worker/model/cpu_products.h"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>

#include <functional>

namespace cosub::model {
namespace {

using Product = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

/// Autocast to bfloat16 on CPU, as worker/train/precision.h sets it.
class Autocast {
 public:
  Autocast() {
    at::autocast::set_autocast_enabled(at::kCPU, true);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
    at::autocast::set_autocast_cache_enabled(false);
    at::autocast::increment_nesting();
  }
  ~Autocast() {
    at::autocast::decrement_nesting();
    at::autocast::set_autocast_cache_enabled(true);
    at::autocast::set_autocast_enabled(at::kCPU, false);
  }
};

struct Result {
  at::Tensor output;
  std::vector<at::Tensor> gradients;
};

/// product(inputs), and the gradients of its inner product with fixed numbers.
Result run(const Product& product, const std::vector<at::Tensor>& values, bool autocast) {
  std::vector<at::Tensor> inputs;
  for (const at::Tensor& value : values) inputs.push_back(value.detach().clone().requires_grad_());
  at::Tensor output;
  if (autocast) {
    const Autocast scope;
    output = product(inputs);
  } else {
    output = product(inputs);
  }
  at::Tensor weights = at::arange(output.numel(), at::kFloat).cos().view(output.sizes());
  (output.to(at::kFloat) * weights).sum().backward();
  Result result{output.detach().to(at::kFloat), {}};
  for (const at::Tensor& input : inputs) result.gradients.push_back(input.grad());
  return result;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

/// Both round to 8 bits, so that single numbers may differ by one of 256 and their norm by much less.
void expect_what_autocast_gives(const Product& ours, const Product& torchs,
                                const std::vector<at::Tensor>& values) {
  const RoundingWhateverTheCpu rounding;
  const Result mine = run(ours, values, true), theirs = run(torchs, values, true),
               exact = run(torchs, values, false);
  EXPECT_LT(distance(mine.output, theirs.output), 5e-4);
  EXPECT_GT(distance(mine.output, exact.output), 1e-3) << "nothing was rounded";
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(mine.gradients[i].scalar_type(), at::kFloat);
    EXPECT_LT(distance(mine.gradients[i], theirs.gradients[i]), 5e-4) << i;
    EXPECT_GT(distance(mine.gradients[i], exact.gradients[i]), 1e-3) << i;
  }
}

TEST(CpuProducts, LinearGivesWhatAutocastGives) {
  at::manual_seed(1);
  expect_what_autocast_gives([](const auto& in) { return linear(in[0], in[1], in[2]); },
                             [](const auto& in) { return at::linear(in[0], in[1], in[2]); },
                             {at::randn({3, 17, 40}), at::randn({24, 40}), at::randn({24})});
}

TEST(CpuProducts, ConvolutionGivesWhatAutocastGives) {
  at::manual_seed(2);
  const auto images = at::randn({3, 4, 11, 11}).contiguous(at::MemoryFormat::ChannelsLast);
  expect_what_autocast_gives(
      [](const auto& in) {
        return conv2d(in[0], in[1], in[2], {2, 2}, {1, 1}, 2);
      },
      [](const auto& in) {
        const std::array<std::int64_t, 2> two = {2, 2}, one = {1, 1};
        return at::conv2d(in[0], in[1], in[2], two, one, one, 2);
      },
      {images, at::randn({6, 2, 3, 3}), at::randn({6})});
}

TEST(CpuProducts, AttentionInStepsGivesWhatTheKernelGives) {
  at::manual_seed(3);
  const std::vector<at::Tensor> values = {at::randn({2, 3, 19, 8}), at::randn({2, 3, 19, 8}),
                                          at::randn({2, 3, 19, 8})};
  const Result mine = run([](const auto& in) { return attention(in[0], in[1], in[2]); }, values, false);
  const Result theirs = run(
      [](const auto& in) { return at::scaled_dot_product_attention(in[0], in[1], in[2]); }, values, false);
  EXPECT_LT(distance(mine.output, theirs.output), 1e-6);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_LT(distance(mine.gradients[i], theirs.gradients[i]), 1e-6) << i;
}

TEST(CpuProducts, AttentionUnderAutocastIsThatOfRoundedOperands) {
  at::manual_seed(4);
  const RoundingWhateverTheCpu rounding;
  const auto rows = [] { return at::randn({2, 3, 19, 8}).to(at::kBFloat16).to(at::kFloat); };
  const std::vector<at::Tensor> values = {rows(), rows(), rows()};
  const Result mine = run([](const auto& in) { return attention(in[0], in[1], in[2]); }, values, true);
  const Result exact = run(
      [](const auto& in) { return at::scaled_dot_product_attention(in[0], in[1], in[2]); }, values, false);
  EXPECT_TRUE(at::equal(mine.output, mine.output.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_LT(distance(mine.output, exact.output), 3e-3);
  EXPECT_EQ(mine.output.scalar_type(), at::kFloat);
}

TEST(CpuProducts, WithoutAutocastNothingIsRounded) {
  const RoundingWhateverTheCpu rounding;
  const at::Tensor x = at::randn({5, 7}), weight = at::randn({3, 7});
  EXPECT_FALSE(rounds_products(x));
  EXPECT_TRUE(at::equal(linear(x, weight, at::Tensor()), at::linear(x, weight)));
}

TEST(Rounding, IsThatOfBFloat16ForEveryKindOfNumber) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const at::Tensor numbers =
      at::cat({at::randn({40'000}) * 1e3,
               at::tensor({0.0F, -0.0F, kInfinity, -kInfinity, std::numeric_limits<float>::max(),
                           std::numeric_limits<float>::denorm_min(), 1.00390625F, 1.01171875F})});
  EXPECT_TRUE(at::equal(rounded_to_bf16(numbers), numbers.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_TRUE(rounded_to_bf16(at::full({3}, NAN)).isnan().all().item<bool>());
}

}  // namespace
}  // namespace cosub::model
