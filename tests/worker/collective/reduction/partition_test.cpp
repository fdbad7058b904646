#include "worker/collective/reduction/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <stdexcept>
#include <vector>

#include "worker/collective/gpu_choice.h"

namespace cosub::collective {
namespace {

TEST(MicrobatchesOfTest, ranges_follow_each_other_cover_all_and_differ_by_one_at_most) {
  for (std::int64_t world_size = 1; world_size <= 9; ++world_size) {
    for (std::int64_t num_microbatches = 0; num_microbatches <= 40; ++num_microbatches) {
      std::int64_t next = 0, shortest = num_microbatches, longest = 0;
      for (std::int64_t rank = 0; rank < world_size; ++rank) {
        const auto range = microbatches_of(rank, world_size, num_microbatches);
        EXPECT_EQ(range.begin, next);
        next = range.end;
        shortest = std::min(shortest, range.end - range.begin);
        longest = std::max(longest, range.end - range.begin);
      }
      EXPECT_EQ(next, num_microbatches);
      EXPECT_LE(longest - shortest, 1);
    }
  }
}

TEST(MicrobatchesOfTest, groups_own_whole_bundles_and_each_rank_one_place_in_them) {
  for (const std::int64_t group_size : {1, 2, 3}) {
    for (std::int64_t num_groups = 1; num_groups <= 4; ++num_groups) {
      for (std::int64_t num_bundles = 0; num_bundles <= 9; ++num_bundles) {
        std::vector<std::int64_t> owners;
        for (std::int64_t m = 0; m < num_bundles * group_size; ++m) {
          for (std::int64_t rank = 0; rank < num_groups * group_size; ++rank) {
            const auto own =
                microbatches_of(rank, num_groups * group_size, num_bundles * group_size, group_size);
            for (auto each = own.begin; each < own.end; each += own.stride) {
              if (each == m) owners.push_back(rank);
            }
          }
        }
        ASSERT_EQ(owners.size(), static_cast<std::size_t>(num_bundles * group_size));
        for (std::size_t m = 0; m < owners.size(); ++m) {
          const auto place = static_cast<std::int64_t>(m) % group_size;
          const auto bundles = microbatches_of(owners[m] / group_size, num_groups, num_bundles);
          EXPECT_EQ(owners[m] % group_size, place);
          EXPECT_GE(static_cast<std::int64_t>(m) / group_size, bundles.begin);
          EXPECT_LT(static_cast<std::int64_t>(m) / group_size, bundles.end);
        }
      }
    }
  }
  EXPECT_THROW(microbatches_of(0, 3, 4, 2), std::invalid_argument);
  EXPECT_THROW(microbatches_of(0, 4, 5, 2), std::invalid_argument);
}

TEST(MicrobatchesOfTest, huge_sizes_do_not_overflow) {
  constexpr auto kHuge = std::int64_t{1} << 62;
  EXPECT_EQ(microbatches_of(999, 1000, kHuge).end, kHuge);
}

TEST(MicrobatchesOfTest, a_rank_outside_the_world_is_refused) {
  EXPECT_THROW(microbatches_of(4, 4, 8), std::invalid_argument);
  EXPECT_THROW(microbatches_of(-1, 4, 8), std::invalid_argument);
}

TEST(TreeTest, nodes_split_at_the_largest_power_of_two_below_their_size) {
  EXPECT_EQ(split_of({0, 2}), 1);
  EXPECT_EQ(split_of({0, 8}), 4);
  EXPECT_EQ(split_of({0, 9}), 8);
  EXPECT_EQ(split_of({8, 13}), 12);
}

TEST(TreeTest, subtrees_of_a_range_are_the_maximal_nodes_inside_it) {
  using Ranges = std::vector<Range>;
  EXPECT_EQ(subtrees_of({0, 13}, 13), (Ranges{{0, 13}}));
  EXPECT_EQ(subtrees_of({8, 13}, 13), (Ranges{{8, 13}}));
  EXPECT_EQ(subtrees_of({3, 9}, 13), (Ranges{{3, 4}, {4, 8}, {8, 9}}));
  EXPECT_EQ(subtrees_of({5, 5}, 13), Ranges{});
}

TEST(TreeTest, subtrees_cover_the_range_and_are_few) {
  for (std::int64_t size = 1; size <= 70; ++size) {
    for (std::int64_t begin = 0; begin < size; ++begin) {
      for (std::int64_t end = begin + 1; end <= size; ++end) {
        const auto subtrees = subtrees_of({begin, end}, size);
        auto next = begin;
        for (const auto& node : subtrees) {
          EXPECT_EQ(node.begin, next);
          next = node.end;
        }
        EXPECT_EQ(next, end);
        EXPECT_LE(static_cast<int>(subtrees.size()), 2 * std::bit_width(static_cast<std::uint64_t>(size)));
      }
    }
  }
}

TEST(GpuChoiceTest, is_the_place_on_the_host_or_the_only_one_that_is_seen) {
  EXPECT_EQ(gpu_of(0, 8), 0);
  EXPECT_EQ(gpu_of(7, 8), 7);
  EXPECT_EQ(gpu_of(8, 8), -1);
  EXPECT_EQ(gpu_of(3, 1), 0);  // srun --gpus-per-task=1
  EXPECT_EQ(gpu_of(0, 0), -1);
}

TEST(GpuChoiceTest, no_two_ranks_may_have_the_same) {
  const std::vector<std::string> apart = {"0000:01:00.0 on a", "0000:02:00.0 on a", "0000:01:00.0 on b"};
  const std::vector<std::string> together = {"0000:01:00.0 on a", "0000:02:00.0 on a", "0000:01:00.0 on a"};
  for (std::int64_t rank = 0; rank < 3; ++rank) EXPECT_EQ(shared_gpu(apart, rank), "");
  EXPECT_THAT(shared_gpu(together, 2), ::testing::HasSubstr("(0000:01:00.0 on a) with rank 0"));
  EXPECT_EQ(shared_gpu(together, 1), "");
}

}  // namespace
}  // namespace cosub::collective
