#include "worker/model/transformer_block.h"

#include <gtest/gtest.h>

#include "tests/worker/model/products.h"

namespace cosub::model {
namespace {

using testing::distance;
using testing::Result;

constexpr std::int64_t kImages = 3, kTokens = 10, kDim = 24;

Pass every_row() {
  Pass pass;
  pass.images = kImages;
  return pass;
}
Pass some_rows(std::int64_t images, std::int64_t views) {
  Pass pass = every_row();
  pass.kind = Pass::Kind::kTrain;
  pass.images = images;
  pass.views = views;
  pass.kept.branches = {{false, {0, 2}, 1.5}, {false, {1}, 3.0}};
  return pass;
}
Pass submodel(bool keeps_block, std::vector<double> scale) {
  Pass pass = every_row();
  pass.kind = Pass::Kind::kSubmodel;
  pass.keep_block = {keeps_block};
  pass.block_scale = std::move(scale);
  return pass;
}

struct Case {
  const char* name;
  Pass pass;
  std::int64_t rows = kImages;  // of the block's input
};

class ClassTokenOfBlock : public ::testing::TestWithParam<Case> {
 protected:
  ClassTokenOfBlock() : block_({kDim, 3, 4.0, 0.5}, "blocks.0", 0, seam_) {
    at::manual_seed(3);
    const at::NoGradGuard no_grad;
    for (at::Tensor& parameter : block_.parameters()) parameter.copy_(at::randn_like(parameter) * 0.5);
    block_.to(at::kDouble);
  }

  /// The class token and the gradients of its weighted sum: of the input, then of the parameters in order.
  template <typename Forward>
  Result result(const Forward& forward) {
    seam_.begin(GetParam().pass);
    block_.zero_grad(/*set_to_none=*/true);
    at::manual_seed(4);
    const at::Tensor x = at::randn({GetParam().rows, kTokens, kDim}, at::kDouble).requires_grad_();
    Result result{forward(x), {}};
    (result.output * at::arange(result.output.numel(), at::kDouble).cos().view_as(result.output))
        .sum()
        .backward();
    result.gradients.push_back(x.grad());
    for (const at::Tensor& parameter : block_.parameters()) result.gradients.push_back(parameter.grad());
    return result;
  }

  ResidualSeam seam_;
  TransformerBlock block_;
};

TEST_P(ClassTokenOfBlock, IsTheFirstOfAllTokensWithItsGradients) {
  const Result alone = result([&](const at::Tensor& x) { return block_.forward_class_token(x); });
  const Result of_all = result([&](const at::Tensor& x) { return block_.forward(x).narrow(1, 0, 1); });
  ASSERT_EQ(alone.output.sizes(), of_all.output.sizes());
  EXPECT_LT(distance(alone.output, of_all.output), 1e-14);
  for (std::size_t i = 0; i < of_all.gradients.size(); ++i) {
    ASSERT_EQ(alone.gradients[i].defined(), of_all.gradients[i].defined()) << i;
    if (!of_all.gradients[i].defined()) continue;
    EXPECT_LT(distance(alone.gradients[i], of_all.gradients[i]), 1e-13) << i;
  }
}

TEST_P(ClassTokenOfBlock, IsTheSameWithBranchesComputedAgain) {
  const auto forward = [&](const at::Tensor& x) { return block_.forward_class_token(x); };
  const Result kept = result(forward);
  seam_.set_recompute(true);
  const Result again = result(forward);
  for (std::size_t i = 0; i < kept.gradients.size(); ++i) {
    if (!kept.gradients[i].defined()) continue;
    EXPECT_TRUE(at::equal(kept.gradients[i], again.gradients[i])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Passes, ClassTokenOfBlock,
                         ::testing::Values(Case{"Full", every_row()}, Case{"SomeRows", some_rows(kImages, 1)},
                                           Case{"SharedStem", some_rows(2, 2), 2},
                                           Case{"TwoViews", some_rows(2, 2), 4},
                                           Case{"LeftOut", submodel(false, {})},
                                           Case{"Scaled", submodel(true, {1.25})}),
                         [](const auto& made) { return std::string(made.param.name); });

}  // namespace
}  // namespace cosub::model
