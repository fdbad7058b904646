#include "worker/model/residual.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace cosub::model {
namespace {

using Rows = std::vector<std::int64_t>;

std::vector<BranchInfo> branches_with_rates(const std::vector<double>& rates) {
  std::vector<BranchInfo> branches;
  for (double rate : rates) {
    const auto block = static_cast<std::int64_t>(branches.size());
    branches.push_back({"block" + std::to_string(block), block, rate, {}});
  }
  return branches;
}

ResidualSeam seam_with(std::size_t branches) {
  ResidualSeam seam;
  for (const BranchInfo& info : branches_with_rates(std::vector<double>(branches, 0.0))) seam.declare(info);
  return seam;
}

Pass train_pass(std::int64_t images, std::int64_t views, std::vector<KeptRows::Branch> kept) {
  Pass pass;
  pass.kind = Pass::Kind::kTrain;
  pass.images = images;
  pass.views = views;
  pass.kept.branches = std::move(kept);
  return pass;
}

at::Tensor times_ten(const at::Tensor& x) {
  return x * 10;
}

TEST(DrawKeptRows, FixedCountKeepsTheSameNumberInEachHalf) {
  const KeptRows kept =
      draw_kept_rows(branches_with_rates({0.1, 0.5, 0.95}), DepthMode::kFixed, 12, 2, 1, 2, 3);
  const std::vector<std::int64_t> counts = {11, 6, 1};  // floor((1-d) 12 + 0.5), at least 1
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const KeptRows::Branch& branch = kept.branches[i];
    EXPECT_FALSE(branch.all);
    EXPECT_DOUBLE_EQ(branch.scale, 12.0 / static_cast<double>(counts[i]));
    ASSERT_EQ(static_cast<std::int64_t>(branch.rows.size()), 2 * counts[i]);
    EXPECT_TRUE(std::is_sorted(branch.rows.begin(), branch.rows.end()));
    EXPECT_EQ(std::set<std::int64_t>(branch.rows.begin(), branch.rows.end()).size(), branch.rows.size());
    EXPECT_EQ(std::count_if(branch.rows.begin(), branch.rows.end(), [](auto row) { return row < 12; }),
              counts[i]);
    EXPECT_LT(branch.rows.back(), 24);
  }
}

TEST(DrawKeptRows, KeepsAllWhereTheCountRoundsUpToAllRows) {
  const KeptRows kept = draw_kept_rows(branches_with_rates({0.0, 0.1}), DepthMode::kFixed, 4, 2, 1, 0, 0);
  EXPECT_TRUE(kept.branches[0].all);
  EXPECT_TRUE(kept.branches[1].all) << "(1-0.1) * 4 + 0.5 rounds to 4 of 4";
}

TEST(DrawKeptRows, DrawsDifferBetweenHalvesBranchesStepsAndMicrobatchesButRepeat) {
  const auto draw = [](std::int64_t step, std::int64_t microbatch) {
    return draw_kept_rows(branches_with_rates({0.5, 0.5}), DepthMode::kFixed, 64, 2, 9, step, microbatch);
  };
  const KeptRows one = draw(5, 1);
  EXPECT_EQ(one.branches[0].rows, draw(5, 1).branches[0].rows);
  EXPECT_NE(one.branches[0].rows, one.branches[1].rows);
  EXPECT_NE(one.branches[0].rows, draw(6, 1).branches[0].rows);
  EXPECT_NE(one.branches[0].rows, draw(5, 2).branches[0].rows);
  Rows first(one.branches[0].rows.begin(), one.branches[0].rows.begin() + 32);
  Rows second(one.branches[0].rows.begin() + 32, one.branches[0].rows.end());
  for (std::int64_t& row : second) row -= 64;
  EXPECT_NE(first, second) << "the two submodels must not be the same";
}

TEST(DrawKeptRows, EachRowIsKeptEquallyOften) {
  std::vector<int> seen(8, 0);
  constexpr int kDraws = 4000;
  for (int step = 0; step < kDraws; ++step) {
    const KeptRows kept = draw_kept_rows(branches_with_rates({0.5}), DepthMode::kFixed, 4, 2, 3, step, 0);
    for (std::int64_t row : kept.branches[0].rows) ++seen[static_cast<std::size_t>(row)];
  }
  for (int count : seen) EXPECT_NEAR(count, kDraws / 2, 160) << "five standard deviations";
}

TEST(DrawKeptRows, BernoulliKeepsTheExpectedShareWithItsOwnScale) {
  std::int64_t kept_rows = 0;
  for (int step = 0; step < 500; ++step) {
    const KeptRows kept =
        draw_kept_rows(branches_with_rates({0.3}), DepthMode::kBernoulli, 20, 2, 3, step, 0);
    EXPECT_FALSE(kept.branches[0].all);
    EXPECT_DOUBLE_EQ(kept.branches[0].scale, 1.0 / 0.7);
    kept_rows += static_cast<std::int64_t>(kept.branches[0].rows.size());
  }
  EXPECT_NEAR(static_cast<double>(kept_rows) / 20000.0, 0.7, 0.02);
}

TEST(EffectiveDropRate, IsWhatWholeRowsAllow) {
  EXPECT_DOUBLE_EQ(effective_drop_rate(0.1, DepthMode::kFixed, 64), 6.0 / 64.0);
  EXPECT_DOUBLE_EQ(effective_drop_rate(0.99, DepthMode::kFixed, 8), 7.0 / 8.0);
  EXPECT_DOUBLE_EQ(effective_drop_rate(0.1, DepthMode::kBernoulli, 3), 0.1);
}

TEST(ResidualSeam, RunsTheBranchOnKeptRowsOnlyAndScales) {
  ResidualSeam seam = seam_with(1);
  seam.begin(train_pass(2, 2, {{false, {0, 3}, 2.0}}));
  const at::Tensor x = at::arange(1, 5, at::kFloat).reshape({4, 1});
  std::int64_t rows_seen = 0;
  const at::Tensor y = seam.apply(0, x, [&](const at::Tensor& rows) {
    rows_seen = rows.size(0);
    return times_ten(rows);
  });
  EXPECT_EQ(rows_seen, 2);
  EXPECT_TRUE(at::equal(y.flatten(), at::tensor({21.0F, 2.0F, 3.0F, 84.0F})));
}

TEST(ResidualSeam, SharedStemGivesWhatAllRowsGive) {
  const at::Tensor images = at::tensor({1.0F, 2.0F}).reshape({2, 1});
  for (const bool share : {true, false}) {
    ResidualSeam seam = seam_with(3);
    Pass pass = train_pass(2, 2, {{}, {false, {1, 2}, 2.0}, {false, {0, 1, 2}, 1.0}});
    pass.share_stem = share;
    seam.begin(pass);
    at::Tensor x = seam.start(images);
    EXPECT_EQ(x.size(0), share ? 2 : 4);
    for (std::int64_t i = 0; i < 3; ++i) x = seam.apply(i, x, times_ten);
    // rows 1 and 2 through branch 1 (x 21), rows 0, 1, 2 through branch 2 (x 11), all through branch 0 (x 11)
    EXPECT_TRUE(at::equal(seam.finish(x).flatten(), at::tensor({121.0F, 5082.0F, 2541.0F, 22.0F}))) << share;
  }
}

TEST(ResidualSeam, RunsAllRowsWhereNoBranchDrops) {
  ResidualSeam seam = seam_with(2);
  seam.begin(train_pass(3, 2, {{}, {}}));
  EXPECT_EQ(seam.start(at::ones({3, 1})).size(0), 6);
}

TEST(ResidualSeam, AddsToTheProjectedShortcut) {
  ResidualSeam seam = seam_with(1);
  seam.begin(train_pass(1, 2, {{false, {1}, 1.0}}));
  const at::Tensor x = at::ones({1, 1}), shortcut = at::full({1, 1}, 100.0);
  EXPECT_TRUE(at::equal(seam.apply(0, x, shortcut, times_ten).flatten(), at::tensor({100.0F, 110.0F})));
}

TEST(ResidualSeam, LeavesTheShortcutWhenBernoulliDropsEveryRow) {
  ResidualSeam seam = seam_with(1);
  seam.begin(train_pass(2, 2, {{false, {}, 2.0}}));
  const auto never = [](const at::Tensor&) -> at::Tensor { throw std::logic_error("the branch ran"); };
  EXPECT_TRUE(at::equal(seam.apply(0, at::ones({2, 1}), never), at::ones({4, 1})));
}

TEST(ResidualSeam, KeepsChannelsLast) {
  ResidualSeam seam = seam_with(1);
  seam.begin(train_pass(2, 2, {{false, {0, 2}, 1.5}}));
  const at::Tensor nchw = at::randn({4, 3, 5, 5});
  const at::Tensor x = nchw.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor y = seam.apply(0, x, [](const at::Tensor& rows) {
    EXPECT_TRUE(rows.is_contiguous(at::MemoryFormat::ChannelsLast));
    return times_ten(rows);
  });
  EXPECT_TRUE(y.is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(at::allclose(y, seam.apply(0, nchw, times_ten)));
}

TEST(ResidualSeam, GradientsReachKeptRowsThroughTheBranchAndAllThroughTheShortcut) {
  ResidualSeam seam = seam_with(1);
  seam.begin(train_pass(2, 2, {{false, {1, 2}, 3.0}}));
  at::Tensor x = at::ones({2, 1}).set_requires_grad(true);  // shared stem: each row is used by both halves
  seam.apply(0, x, times_ten).sum().backward();
  EXPECT_TRUE(at::equal(x.grad().flatten(), at::tensor({32.0F, 32.0F})));
}

TEST(ResidualSeam, NamedSubmodelRunsOnlyItsBlocks) {
  ResidualSeam seam = seam_with(3);
  Pass pass;
  pass.kind = Pass::Kind::kSubmodel;
  pass.images = 1;
  pass.keep_block = {true, false, true};
  seam.begin(pass);
  at::Tensor x = seam.start(at::ones({1, 1}));
  for (std::int64_t i = 0; i < 3; ++i) x = seam.apply(i, x, times_ten);
  EXPECT_FLOAT_EQ(seam.finish(x).item<float>(), 121.0F);
}

TEST(ResidualSeam, RefusesDrawsForAnotherModel) {
  ResidualSeam seam = seam_with(2);
  EXPECT_THROW(seam.begin(train_pass(2, 2, {{}})), std::logic_error);
}

}  // namespace
}  // namespace cosub::model
