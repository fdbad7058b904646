// What the side channel's board says of a wait: no sockets, no clocks but the tests' own.
#include "worker/collective/side_channel/board.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/collective/side_channel/board_keeper.h"
#include "worker/collective/side_channel/place_cell.h"

namespace cosub::collective {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const Place kExchanging{
    .step = 41, .phase = Phase::kExchange, .microbatch = 7, .bucket = 2, .num_buckets = 9, .milestone = 90};
const Place kLoading{.step = 41, .phase = Phase::kLoad, .microbatch = 3, .milestone = 89};

/// Three ranks on three hosts, all heard just now in the same exchange.
Board three_ranks() {
  Board board{.available = true, .period = 1s};
  for (int r = 0; r < 3; ++r) {
    board.ranks.push_back({.host = "host" + std::to_string(5 + r),
                           .heard = true,
                           .connected = true,
                           .place = kExchanging,
                           .silence = 0ms,
                           .stay = 11s});
  }
  return board;
}

TEST(Diagnose, NamesTheSilentRankWithItsLastPlace) {
  Board board = three_ranks();
  board.ranks[2].silence = 12s;
  for (std::int64_t own : {0, 1}) {
    const Diagnosis found = diagnose(board, own);
    EXPECT_THAT(found.ranks, ElementsAre(2));
    EXPECT_EQ(found.text,
              "rank 2 of 3 on host7 was last heard 12 s ago, at step 41, exchange, bucket 3 of 9");
  }
}

TEST(Diagnose, AddsTheAgeOfTheBoardToASilence) {
  Board board = three_ranks();
  board.ranks[2].silence = 3500ms;
  board.age = 900ms;
  EXPECT_THAT(diagnose(board, 1).text, HasSubstr("rank 2 of 3 on host7 was last heard 4.4 s ago"));
}

TEST(Diagnose, NamesRankZeroWhenItsBoardsDoNotCome) {
  Board board = three_ranks();
  board.age = 12s;
  const Diagnosis found = diagnose(board, 1);
  EXPECT_THAT(found.ranks, ElementsAre(0));
  EXPECT_THAT(found.text, HasSubstr("rank 0 of 3 on host5 was last heard 12 s ago, at step 41, exchange"));
}

TEST(Diagnose, SaysWhoWasSilentBeforeRankZeroFellSilent) {
  Board board = three_ranks();
  board.age = 12s;
  board.ranks[2].silence = 20s;
  EXPECT_THAT(diagnose(board, 1).ranks, ElementsAre(2, 0));
}

TEST(Diagnose, TellsAClosedConnectionAndOneThatNeverWas) {
  Board board = three_ranks();
  board.ranks[1].silence = board.ranks[2].silence = 30s;
  board.ranks[1].connected = false;
  board.ranks[2].heard = false;
  EXPECT_THAT(diagnose(board, 0).text, HasSubstr("bucket 3 of 9 (its connection is closed); rank 2 of 3 on "
                                                 "host7 was never heard on the side channel"));
}

TEST(Diagnose, NamesWhoIsBehindAndForHowLong) {
  Board board = three_ranks();
  board.ranks[1].place = kLoading;
  board.ranks[1].stay = 31s;
  const Diagnosis found = diagnose(board, 2);
  EXPECT_THAT(found.ranks, ElementsAre(1));
  EXPECT_EQ(found.text, "rank 1 of 3 on host6 is behind: step 41, load, microbatch 3, since 31 s");
}

TEST(Diagnose, PrefersWhoIsSilentToWhoIsBehind) {
  Board board = three_ranks();
  board.ranks[1].place = kLoading;
  board.ranks[2].silence = 12s;
  EXPECT_THAT(diagnose(board, 0).ranks, ElementsAre(2));
}

TEST(Diagnose, DoesNotBlameWhoWaitsInAnEarlierBucket) {
  Board board = three_ranks();
  board.ranks[0].place.bucket = 1;
  board.ranks[1].place = kLoading;
  EXPECT_THAT(diagnose(board, 2).ranks, ElementsAre(1));
  board.ranks[1].place = kExchanging;
  EXPECT_THAT(diagnose(board, 2).ranks, ElementsAre(0));  // nobody else is left
}

TEST(Diagnose, SaysWhereAllAreWhenNobodyIsToBlame) {
  Board board = three_ranks();
  EXPECT_THAT(diagnose(board, 0).ranks, IsEmpty());
  EXPECT_EQ(diagnose(board, 0).text, "all ranks answer, and all are at step 41, exchange, bucket 3 of 9");
  for (auto& rank : board.ranks) rank.place = kLoading;
  board.ranks[0].place.phase = Phase::kForward;
  EXPECT_EQ(diagnose(board, 0).text,
            "all ranks answer, and none is behind: rank 0 at step 41, forward, microbatch 3; ranks 1, 2 at "
            "step 41, load, microbatch 3");
}

TEST(Diagnose, DescribesFourAndCountsTheRest) {
  Board board = three_ranks();
  board.ranks.resize(7, board.ranks[0]);
  for (std::size_t r = 1; r < 7; ++r) board.ranks[r].silence = 12s;
  EXPECT_THAT(diagnose(board, 0).text, HasSubstr("; so too ranks 5, 6"));
}

TEST(SilenceMemoryTest, NamesWhoWasSilentUntilAMomentAgoAndThenNoLonger) {
  Board board = three_ranks();
  board.ranks[2].silence = 12s;
  SilenceMemory memory;
  const SideTime now{};
  memory.note(board, 1, now);
  board.ranks[2].silence = 0ms;  // woken up
  memory.note(board, 1, now + 1s);
  const Diagnosis found = memory.diagnosis(board, 1, now + 1s);
  EXPECT_THAT(found.ranks, ElementsAre(2));
  EXPECT_THAT(found.text, HasSubstr("rank 2 of 3 on host7 was last heard 12 s ago"));
  EXPECT_THAT(memory.diagnosis(board, 1, now + 5s).ranks, IsEmpty());
  board.ranks[0].silence = 6s;
  EXPECT_THAT(memory.diagnosis(board, 1, now + 1s).ranks, ElementsAre(0)) << "who is silent now comes first";
}

TEST(Diagnose, HasNothingToSayWithoutAChannel) {
  EXPECT_THAT(diagnose(Board{}, 0).text, IsEmpty());
}

const SideTime kStart = SideTime{} + 1h;

class Keeping : public ::testing::Test {
 protected:
  /// Rank 0's thread for so long, in periods of a second, hearing these ranks.
  std::vector<std::string> live(std::chrono::seconds duration, std::vector<std::int64_t> ranks) {
    std::vector<std::string> all;
    for (const auto end = now_ + duration; now_ < end;) {
      now_ += 1s;
      keeper_.heard(0, {kExchanging, 0ms}, now_);
      for (std::int64_t r : ranks) keeper_.heard(r, {kExchanging, 0ms}, now_);
      for (auto& one : keeper_.tick(now_)) all.push_back(one);
    }
    return all;
  }
  SideTime now_ = kStart;
  BoardKeeper keeper_{{"a", "b", "c"}, 1s, kStart};
};

TEST_F(Keeping, TellsOnceThatARankIsSilentAndOnceThatItIsBack) {
  EXPECT_THAT(live(10s, {1, 2}), IsEmpty());
  EXPECT_THAT(live(20s, {1}), ElementsAre(HasSubstr("rank 2 of 3 on c was last heard 5.0 s ago")));
  EXPECT_EQ(keeper_.board(now_).ranks[2].silence, 20s);
  EXPECT_THAT(live(10s, {1, 2}), ElementsAre("rank 2 of 3 on c is heard again"));
}

TEST_F(Keeping, DoesNotBlameTheOthersForItsOwnStandingStill) {
  live(10s, {1, 2});
  now_ += 1h;  // stopped
  EXPECT_THAT(diagnose(keeper_.board(now_), 0).ranks, IsEmpty());
  EXPECT_THAT(live(1s, {}), IsEmpty());
}

TEST(RemoteBoardTest, TellsWhenRankZeroFallsSilentButNotWhenItStoodStillItself) {
  RemoteBoard remote({"a", "b", "c"}, 1s, kStart);
  SideTime now = kStart;
  const auto tick = [&] { return remote.tick(now += 1s); };
  remote.received(three_ranks().ranks, now);
  for (int i = 0; i < 4; ++i) EXPECT_THAT(tick(), IsEmpty());
  EXPECT_THAT(tick(), ElementsAre(HasSubstr("rank 0 of 3 on a was last heard 5.0 s ago")));
  EXPECT_THAT(tick(), IsEmpty());
  remote.received(three_ranks().ranks, now);
  EXPECT_THAT(tick(), ElementsAre("rank 0 of 3 on a is heard again"));
  now += 1h;
  EXPECT_THAT(tick(), IsEmpty());
}

TEST(PlaceCellTest, TellsABucketWithItsOwnStepOnly) {
  PlaceCell cell;
  cell.at({.step = 41, .phase = Phase::kBackward, .microbatch = 6});
  EXPECT_EQ(cell.get().bucket, -1);
  cell.exchanging(41, 2, 9);
  EXPECT_EQ(describe(cell.get()), "step 41, backward, microbatch 6, bucket 3 of 9");
  cell.at({.step = 41, .phase = Phase::kUpdate});
  EXPECT_EQ(describe(cell.get()), "step 41, update");
  cell.at({.step = 42, .phase = Phase::kLoad, .microbatch = 0});
  EXPECT_EQ(describe(cell.get()), "step 42, load, microbatch 0");
}

TEST(PlaceCellTest, RanksWithMoreMicrobatchesPassNoMoreMilestones) {
  const auto milestone_after = [](int microbatches) {
    PlaceCell cell;
    for (int m = 0; m < microbatches; ++m) {
      for (Phase phase : {Phase::kLoad, Phase::kForward, Phase::kBackward}) cell.at({.phase = phase});
    }
    cell.at({.phase = Phase::kExchange});
    cell.at({.phase = Phase::kEvaluate, .microbatch = 0});
    for (int m = 0; m < microbatches; ++m) cell.at({.phase = Phase::kEvaluate, .microbatch = 50});
    cell.at({.phase = Phase::kEvaluate, .microbatch = 100});
    return cell.get().milestone;
  };
  EXPECT_EQ(milestone_after(1), milestone_after(3));
  EXPECT_EQ(milestone_after(1), 4);
}

TEST(PlaceWatchTest, CountsTheTimeInOnePlace) {
  PlaceCell cell;
  PlaceWatch watch(cell);
  EXPECT_EQ(watch.look(kStart).stay, 0ms);
  EXPECT_EQ(watch.look(kStart + 5s).stay, 5s);
  cell.exchanging(0, 1, 2);
  cell.at({.step = 0, .phase = Phase::kExchange});
  EXPECT_EQ(watch.look(kStart + 6s).stay, 0ms);
}

}  // namespace
}  // namespace cosub::collective
