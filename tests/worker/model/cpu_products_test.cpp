#include "worker/model/cpu_products.h"

#include <gtest/gtest.h>

#include "tests/worker/model/products.h"

namespace cosub::model {
namespace {

using testing::distance;
using testing::Product;
using testing::Result;
using testing::run;

/// Both round to 8 bits, so that single numbers may differ by one of 256 and their norm by much less. Without
/// AVX-512 LibTorch's convolution sums its gradients in bfloat16; ours then lie nearer to the exact ones.
void expect_what_autocast_gives(const Product& ours, const Product& torchs,
                                const std::vector<at::Tensor>& values) {
  const RoundingWhateverTheCpu rounding;
  const Result mine = run(ours, values, true), theirs = run(torchs, values, true),
               exact = run(torchs, values, false);
  EXPECT_LT(distance(mine.output, theirs.output), 5e-4);
  EXPECT_GT(distance(mine.output, exact.output), 1e-3) << "nothing was rounded";
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(mine.gradients[i].scalar_type(), at::kFloat);
    const double from_exact = distance(mine.gradients[i], exact.gradients[i]);
    EXPECT_GT(from_exact, 1e-3) << i;
    if (distance(mine.gradients[i], theirs.gradients[i]) < 5e-4) continue;
    EXPECT_FALSE(__builtin_cpu_supports("avx512f")) << i;
    EXPECT_LT(from_exact, distance(theirs.gradients[i], exact.gradients[i])) << i;
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
