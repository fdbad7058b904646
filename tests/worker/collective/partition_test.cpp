#include "worker/collective/partition.h"

#include <gtest/gtest.h>

#include <bit>
#include <stdexcept>

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

}  // namespace
}  // namespace cosub::collective
