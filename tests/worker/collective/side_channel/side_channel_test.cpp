// The side channel over the job's ranks. Runs under mpirun.
#include "worker/collective/side_channel/side_channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/worker/collective/mpi_world.h"
#include "worker/collective/wait_error.h"

namespace cosub::collective {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::world;

bool wait_until(const std::function<bool()>& holds) {
  for (const auto end = std::chrono::steady_clock::now() + 60s; std::chrono::steady_clock::now() < end;) {
    if (holds()) return true;
    std::this_thread::sleep_for(5ms);
  }
  return false;
}

TEST(SideChannelTest, EveryRankSeesThePlacesOfAll) {
  SideChannel channel(world(), {.period = 50ms});
  channel.at({.step = 10 + world().rank(), .phase = Phase::kBackward, .microbatch = 3});
  channel.exchanging(10 + world().rank(), 4, 5);
  if (world().world_size() == 1) {
    EXPECT_FALSE(channel.board().available);
    return;
  }
  const auto all_are_seen = [&] {
    const Board board = channel.board();
    for (std::size_t r = 0; r < board.ranks.size(); ++r) {
      const Place& place = board.ranks[r].place;
      if (place.step != 10 + static_cast<std::int64_t>(r) || place.bucket != 4) return false;
    }
    return static_cast<std::int64_t>(board.ranks.size()) == world().world_size();
  };
  EXPECT_TRUE(wait_until(all_are_seen));
  world().barrier("all have seen");
}

TEST(SideChannelTest, AWaitIsExplainedByWhoIsBehind) {
  if (world().world_size() == 1) return;
  SideChannel channel(world(), {.period = 500ms});
  const std::int64_t last = world().world_size() - 1;
  channel.at({.step = 5, .phase = Phase::kLoad, .microbatch = 0});
  if (world().rank() != last) channel.at({.step = 5, .phase = Phase::kExchange});
  const WaitLimitError error("rank 0 of 3 on a", 5s, "the other ranks",
                             "all_reduce_sum (step 5, bucket 1 of 1)");
  const auto names_the_last =
      AllOf(HasSubstr("rank 0 of 3 on a waited 5 s for rank " + std::to_string(last) +
                      " in all_reduce_sum (step 5, bucket 1 of 1): rank " + std::to_string(last) + " of"),
            HasSubstr("is behind: step 5, load"));
  // Every rank is behind until its first beat has arrived, and where it is comes with a later one.
  wait_until([&] { return ::testing::Matches(names_the_last)(channel.explain(error)); });
  EXPECT_THAT(channel.explain(error), names_the_last);
  world().barrier("all have seen");
}

TEST(SideChannelTest, AnUnusableAddressLeavesTheJobWithoutAChannel) {
  const SideChannel channel(world(), {.advertise = "192.0.2.1", .period = 50ms});  // nobody's, RFC 5737
  EXPECT_FALSE(channel.board().available);
  EXPECT_EQ(channel.explain(CollectiveError("as it was")), "as it was");
}

}  // namespace
}  // namespace cosub::collective
