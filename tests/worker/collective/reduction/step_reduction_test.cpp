// The ordered sum has the same bits on any number of ranks: each rank evaluates the tree alone, in plain
// scalar code, and compares. ctest runs this on 1 to 5 ranks. The fast sum agrees up to rounding.
#include "worker/collective/reduction/step_reduction.h"

#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <thread>

#include "tests/worker/collective/mpi_world.h"

namespace cosub::collective {
namespace {

using Values = std::vector<float>;

// All kinds of float: huge, tiny, denormal, both zeros. Sums stay finite. A function of its arguments only.
Values leaf_of(std::int64_t step, std::int64_t microbatch, std::int64_t size) {
  std::mt19937_64 random(static_cast<std::uint64_t>(step * 1000 + microbatch));
  Values values(static_cast<std::size_t>(size));
  for (auto& value : values) {
    const auto kind = random() % 8;
    const float sign = random() % 2 == 0 ? 1.0F : -1.0F;
    const float unit = static_cast<float>(random() % (1 << 24)) / (1 << 24);
    if (kind == 0) value = sign * 0.0F;
    if (kind == 1)
      value = sign * std::numeric_limits<float>::denorm_min() * static_cast<float>(random() % 1000);
    if (kind == 2) value = sign * std::ldexp(unit, static_cast<int>(random() % 200) - 100);
    if (kind >= 3) value = sign * unit;
  }
  if (size > 0) values[0] = -0.0F;  // in every leaf: the sum must stay -0.0
  return values;
}

// The definition, as step_reduction.h words it.
template <typename Leaf>
Values tree_over(std::int64_t lo, std::int64_t hi, const Leaf& leaf) {
  if (hi - lo == 1) return leaf(lo);
  const auto mid = lo + static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(hi - lo - 1)));
  auto sum = tree_over(lo, mid, leaf);
  const auto right = tree_over(mid, hi, leaf);
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += right[i];
  return sum;
}

Values tree_sum(std::int64_t step, std::int64_t lo, std::int64_t hi, std::int64_t size) {
  return tree_over(lo, hi, [&](std::int64_t m) { return leaf_of(step, m, size); });
}

Values grouped_sum(std::int64_t step, std::int64_t group_size, std::int64_t num_bundles, std::int64_t size) {
  return tree_over(0, group_size, [&](std::int64_t place) {
    return tree_over(0, num_bundles,
                     [&](std::int64_t k) { return leaf_of(step, k * group_size + place, size); });
  });
}

Values sequential_sum(std::int64_t step, std::int64_t num_microbatches, std::int64_t size) {
  auto sum = leaf_of(step, 0, size);
  for (std::int64_t m = 1; m < num_microbatches; ++m) {
    const auto leaf = leaf_of(step, m, size);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += leaf[i];
  }
  return sum;
}

at::Tensor tensor_of(Values& values) {
  return at::from_blob(values.data(), {static_cast<std::int64_t>(values.size())}, at::kFloat);
}

bool same_bits(const at::Tensor& found, const Values& expected) {
  return found.numel() == static_cast<std::int64_t>(expected.size()) &&
         std::memcmp(found.data_ptr(), expected.data(), expected.size() * sizeof(float)) == 0;
}

Range own_microbatches(std::int64_t num_microbatches) {
  return microbatches_of(testing::world().rank(), testing::world().world_size(), num_microbatches);
}

at::Tensor run_step(StepReduction& reduction, std::int64_t step, const ReductionOptions& options) {
  reduction.begin(step);
  const auto own = own_microbatches(options.num_microbatches);
  for (auto m = own.begin; m < own.end; ++m) {
    auto leaf = leaf_of(step, m, options.size);
    reduction.add(m, tensor_of(leaf));
  }
  return reduction.finish();
}

TEST(OrderedReductionTest, any_number_of_ranks_gives_the_bits_of_the_tree) {
  for (std::int64_t num_microbatches = 1; num_microbatches <= 13; ++num_microbatches) {
    for (const std::int64_t size : {1, 2, 3, 7, 64, 1001}) {
      const ReductionOptions options{.num_microbatches = num_microbatches, .size = size};
      const auto reduction = make_step_reduction(testing::world(), options);
      for (std::int64_t step = 0; step < 3; ++step) {
        EXPECT_TRUE(same_bits(run_step(*reduction, step, options), tree_sum(step, 0, num_microbatches, size)))
            << num_microbatches << " microbatches, " << size << " elements, step " << step;
      }
    }
  }
}

/// The leaf's buckets become final one after the other, as in a backward pass.
at::Tensor run_step_in_buckets(StepReduction& reduction, std::int64_t step, const ReductionOptions& options,
                               at::Tensor& last) {
  reduction.begin(step);
  const auto own = own_microbatches(options.num_microbatches);
  for (auto m = own.begin; m < own.end; ++m) {
    auto leaf = leaf_of(step, m, options.size);
    if (m + 1 < own.end) {
      reduction.add(m, tensor_of(leaf));
      continue;
    }
    last.fill_(std::numeric_limits<float>::quiet_NaN());
    reduction.add_last(m, last);
    for (std::size_t b = 0; b < reduction.buckets().size(); ++b) {
      part_of(last, reduction.buckets()[b]).copy_(part_of(tensor_of(leaf), reduction.buckets()[b]));
      reduction.ready(b);
    }
  }
  return reduction.finish();
}

TEST(OrderedReductionTest, exchanging_buckets_as_they_become_final_gives_the_same_bits) {
  for (const bool overlap : {false, true}) {
    for (const std::int64_t num_microbatches : {5, 8, 13}) {
      const ReductionOptions options{
          .num_microbatches = num_microbatches, .size = 1001, .bucket_bytes = 400, .overlap = overlap};
      const auto reduction = make_step_reduction(testing::world(), options);
      EXPECT_EQ(reduction->overlaps(), overlap && testing::world().world_size() > 1);
      auto last = at::empty({1001});
      for (std::int64_t step = 0; step < 3; ++step) {
        EXPECT_TRUE(same_bits(run_step_in_buckets(*reduction, step, options, last),
                              tree_sum(step, 0, num_microbatches, 1001)))
            << num_microbatches << " microbatches, step " << step << ", overlap " << overlap;
      }
    }
  }
}

TEST(OrderedReductionTest, buckets_out_of_order_are_refused) {
  const auto num_microbatches = testing::world().world_size();
  const auto reduction = make_step_reduction(
      testing::world(), {.num_microbatches = num_microbatches, .size = 10, .bucket_bytes = 8});
  reduction->begin(0);
  EXPECT_THROW(reduction->ready(1), std::logic_error);
}

TEST(OverlappedReductionTest, tells_which_bucket_is_exchanged) {
  std::vector<std::int64_t> told;
  const ReductionOptions options{
      .num_microbatches = testing::world().world_size(),
      .size = 10,
      .bucket_bytes = 16,
      .overlap = true,
      .on_bucket = [&](std::int64_t step, std::int64_t bucket, std::int64_t num_buckets) {
        EXPECT_EQ(step, 7);
        EXPECT_EQ(num_buckets, 3);
        told.push_back(bucket);
      }};
  run_step(*make_step_reduction(testing::world(), options), 7, options);
  EXPECT_EQ(told, (std::vector<std::int64_t>{0, 1, 2}));
}

TEST(OverlappedReductionTest, tells_how_long_it_waited_for_a_rank_that_was_late) {
  // One clock for all: these ranks share a host.
  const auto now = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  for (const bool overlap : {false, true}) {
    double turned = 0;  // to the first bucket, for which nothing is ready before finish()
    const ReductionOptions options{.num_microbatches = testing::world().world_size(),
                                   .size = 10,
                                   .bucket_bytes = 16,
                                   .overlap = overlap,
                                   .on_bucket = [&](std::int64_t, std::int64_t bucket, std::int64_t) {
                                     if (bucket == 0) turned = now();
                                   }};
    const auto reduction = make_step_reduction(testing::world(), options);
    testing::world().barrier("before the late rank");
    if (testing::world().rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(500));
    auto late = at::full({1}, now(), at::kDouble);
    const double begin = now();
    run_step(*reduction, 7, options);
    const double took = now() - begin, waited = reduction->take_wait_for_ranks().count();
    testing::world().broadcast(late, 0, "when the late rank came");
    EXPECT_LE(waited, took);
    if (reduction->overlaps()) {
      EXPECT_GE(waited, (late.item<double>() - turned) / 2);  // half: it may be interrupted in between
    } else {
      EXPECT_EQ(waited, 0);
    }
    EXPECT_EQ(reduction->take_wait_for_ranks().count(), 0);
  }
}

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

TEST(CompressedReductionTest, sums_agree_to_bfloat16_alike_on_all_ranks_but_for_the_exact_buckets) {
  const auto world_size = testing::world().world_size();
  ReductionOptions options{.kind = config::Reduction::kFast,
                           .num_microbatches = 2 * world_size,
                           .size = 1001,
                           .buckets = {{900, 1001}, {450, 900}, {0, 450}},
                           .overlap = true,
                           .compress = true,
                           .first_exact = 900};
  const auto reduction = make_step_reduction(testing::world(), options);
  const auto leaf = [](std::int64_t m) {
    return (at::arange(1001, at::kFloat) * 0.7 + static_cast<double>(m)).sin();
  };
  reduction->begin(0);
  const auto own = own_microbatches(options.num_microbatches);
  for (auto m = own.begin; m < own.end; ++m) reduction->add(m, leaf(m));
  const at::Tensor sum = reduction->finish();
  at::Tensor wanted = at::zeros({1001});
  for (std::int64_t m = 0; m < options.num_microbatches; ++m) wanted += leaf(m);
  EXPECT_LT(relative_difference(sum.narrow(0, 0, 900), wanted.narrow(0, 0, 900)),
            0.03);  // they cancel in part
  if (world_size > 1) {
    EXPECT_GT(relative_difference(sum.narrow(0, 0, 900), wanted.narrow(0, 0, 900)), 1e-6);
  }
  EXPECT_LT(relative_difference(sum.narrow(0, 900, 101), wanted.narrow(0, 900, 101)), 1e-6);
  std::vector<at::Tensor> all;
  for (std::int64_t r = 0; r < world_size; ++r) all.push_back(at::empty({1001}));
  testing::world().all_gather(sum.contiguous(), all, "the sums");
  for (const auto& other : all) EXPECT_TRUE(at::equal(other, sum));
}

TEST(CompressedReductionTest, error_feedback_makes_up_for_the_first_rounding_over_the_steps) {
  if (testing::world().world_size() == 1) GTEST_SKIP() << "nothing is rounded on one rank";
  // Too small beside 1 for bfloat16: lost at every step without feedback.
  const auto world_size = testing::world().world_size();
  const at::Tensor leaf = at::full({8}, 1.0 + 1.0 / 1024);
  for (const bool feedback : {false, true}) {
    const auto reduction = make_step_reduction(testing::world(), {.kind = config::Reduction::kFast,
                                                                  .num_microbatches = world_size,
                                                                  .size = 8,
                                                                  .compress = true,
                                                                  .first_exact = 8,
                                                                  .error_feedback = feedback});
    double sent = 0;
    for (std::int64_t step = 0; step < 64; ++step) {
      reduction->begin(step);
      reduction->add(testing::world().rank(), leaf);
      sent += reduction->finish()[0].item<double>() / static_cast<double>(world_size);
      reduction->settle(at::ones({}, at::kBool));
    }
    EXPECT_NEAR(sent, feedback ? 64 * (1 + 1.0 / 1024) : 64, feedback ? 0.04 : 1e-9);
  }
}

/// One infinite number is enough for a step to be left out; what rounding the large, finite others lost must
/// be forgotten as well, and what was lost before must be kept.
TEST(CompressedReductionTest, error_feedback_forgets_a_step_that_is_left_out) {
  if (testing::world().world_size() == 1) GTEST_SKIP() << "nothing is rounded on one rank";
  const auto sums_of = [](const std::vector<at::Tensor>& leaves) {
    const auto reduction =
        make_step_reduction(testing::world(), {.kind = config::Reduction::kFast,
                                               .num_microbatches = testing::world().world_size(),
                                               .size = 8,
                                               .compress = true,
                                               .first_exact = 8,
                                               .error_feedback = true});
    std::vector<at::Tensor> sums;
    for (std::size_t step = 0; step < leaves.size(); ++step) {
      reduction->begin(static_cast<std::int64_t>(step));
      reduction->add(testing::world().rank(), leaves[step]);
      const at::Tensor sum = reduction->finish(), finite = sum.isfinite().all();
      if (finite.item<bool>()) sums.push_back(sum.clone());
      reduction->settle(finite);
    }
    return sums;
  };
  const at::Tensor leaf = at::full({8}, 1.0 + 1.0 / 256);
  for (const float number : {INFINITY, NAN}) {
    at::Tensor broken = at::full({8}, 1e6 + 1);
    broken[3] = number;
    const auto with = sums_of({leaf, broken, leaf, leaf}), without = sums_of({leaf, leaf, leaf});
    ASSERT_EQ(with.size(), 3u);
    ASSERT_EQ(without.size(), 3u);
    EXPECT_FALSE(without[0].equal(without[1]));  // what was lost shows
    for (std::size_t i = 0; i < with.size(); ++i)
      EXPECT_TRUE(with[i].equal(without[i])) << number << ", " << i;
  }
}

TEST(GroupedReductionTest, any_number_of_groups_gives_the_bits_of_its_trees) {
  const auto rank = testing::world().rank(), world_size = testing::world().world_size();
  for (std::int64_t group_size = 1; group_size <= world_size; ++group_size) {
    if (world_size % group_size != 0) continue;
    const auto group = testing::world().split(rank / group_size, "groups");
    for (const std::int64_t num_bundles : {1, 3, 5, 8}) {
      for (const std::int64_t size : {1, 7, 1001}) {
        const ReductionOptions options{.num_microbatches = num_bundles * group_size, .size = size};
        const auto reduction = make_grouped_reduction(testing::world(), *group, options);
        const auto own = microbatches_of(rank, world_size, options.num_microbatches, group_size);
        for (std::int64_t step = 0; step < 3; ++step) {
          reduction->begin(step);
          for (auto m = own.begin; m < own.end; m += own.stride) {
            auto leaf = leaf_of(step, m, size);
            reduction->add(m, tensor_of(leaf));
          }
          EXPECT_TRUE(same_bits(reduction->finish(), grouped_sum(step, group_size, num_bundles, size)))
              << num_bundles << " bundles of " << group_size << ", " << size << " elements, step " << step;
        }
      }
    }
  }
}

TEST(OrderedReductionTest, the_order_matters_for_these_leaves) {
  // Otherwise the test above could not fail: a plain sum in order has other bits.
  for (const std::int64_t num_microbatches : {4, 5, 8, 13}) {
    EXPECT_NE(tree_sum(0, 0, num_microbatches, 1001), sequential_sum(0, num_microbatches, 1001));
  }
}

TEST(OrderedReductionTest, negative_zero_survives) {
  const ReductionOptions options{.num_microbatches = 6, .size = 5};
  const auto reduction = make_step_reduction(testing::world(), options);
  const auto sum = run_step(*reduction, 0, options);
  EXPECT_TRUE(std::signbit(sum[0].item<float>()));
}

TEST(OrderedReductionTest, doubles_are_summed_too) {
  const ReductionOptions options{.num_microbatches = 9, .size = 10, .tensor = at::kDouble};
  const auto reduction = make_step_reduction(testing::world(), options);
  reduction->begin(0);
  const auto own = own_microbatches(9);
  for (auto m = own.begin; m < own.end; ++m)
    reduction->add(m, at::full({10}, 0.5 + static_cast<double>(m), at::kDouble));
  EXPECT_TRUE(at::equal(reduction->finish(), at::full({10}, 40.5, at::kDouble)));
}

TEST(OrderedReductionTest, buffers_of_the_first_step_serve_all_later_ones) {
  const ReductionOptions options{.num_microbatches = 8, .size = 100};
  const auto reduction = make_step_reduction(testing::world(), options);
  const void* first = run_step(*reduction, 0, options).data_ptr();
  EXPECT_EQ(run_step(*reduction, 1, options).data_ptr(), first);
}

class BothKindsTest : public ::testing::TestWithParam<config::Reduction> {};

TEST_P(BothKindsTest, microbatches_out_of_order_or_missing_are_refused) {
  const auto num_microbatches = 2 * testing::world().world_size();
  const ReductionOptions options{.kind = GetParam(), .num_microbatches = num_microbatches, .size = 3};
  const auto reduction = make_step_reduction(testing::world(), options);
  const auto own = own_microbatches(num_microbatches);
  EXPECT_THROW(reduction->add(own.begin, at::zeros({3})), std::logic_error) << "before begin";
  reduction->begin(0);
  EXPECT_THROW(reduction->add(own.begin + 1, at::zeros({3})), std::logic_error);
  EXPECT_THROW(reduction->add(own.begin, at::zeros({4})), std::logic_error);
  EXPECT_THROW(reduction->add(own.begin, at::zeros({3}, at::kDouble)), std::logic_error);
  reduction->add(own.begin, at::zeros({3}));
  EXPECT_THROW(reduction->finish(), std::logic_error);
}
INSTANTIATE_TEST_SUITE_P(, BothKindsTest,
                         ::testing::Values(config::Reduction::kOrdered, config::Reduction::kFast));

TEST(FastReductionTest, sum_agrees_with_the_tree_up_to_rounding_for_any_bucket_size) {
  for (const std::int64_t bucket_bytes : {1, 40, 4096, 1 << 20}) {
    const ReductionOptions options{
        .kind = config::Reduction::kFast, .num_microbatches = 13, .size = 1001, .bucket_bytes = bucket_bytes};
    const auto reduction = make_step_reduction(testing::world(), options);
    for (std::int64_t step = 0; step < 2; ++step) {
      const auto sum = run_step(*reduction, step, options);
      // Against the sum of magnitudes: huge values may cancel.
      auto expected = at::zeros({1001}, at::kDouble), magnitude = at::zeros({1001}, at::kDouble);
      for (std::int64_t m = 0; m < 13; ++m) {
        auto leaf = leaf_of(step, m, 1001);
        expected += tensor_of(leaf).to(at::kDouble);
        magnitude += tensor_of(leaf).to(at::kDouble).abs();
      }
      EXPECT_TRUE(((sum.to(at::kDouble) - expected).abs() <= magnitude * 1e-6).all().item<bool>());
    }
  }
}

TEST(FastReductionTest, ranks_without_microbatches_add_nothing) {
  const ReductionOptions options{.kind = config::Reduction::kFast, .num_microbatches = 1, .size = 4};
  const auto reduction = make_step_reduction(testing::world(), options);
  for (std::int64_t step = 0; step < 2; ++step) {
    reduction->begin(step);
    if (testing::world().rank() == 0) reduction->add(0, at::full({4}, 2.5));
    EXPECT_TRUE(at::equal(reduction->finish(), at::full({4}, 2.5)));
  }
}

}  // namespace
}  // namespace cosub::collective
