// Parallel work whose results, and errors, do not depend on the threads.
#include "worker/data/storage/in_threads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <stdexcept>

namespace cosub::data {
namespace {

TEST(InThreads, EachIsDoneOnce) {
  std::vector<std::atomic<int>> times(1000);
  in_threads(4, 1000, [&](std::int64_t i) { ++times[i]; });
  for (const auto& count : times) EXPECT_EQ(count, 1);
}

TEST(InThreads, AnErrorEndsTheRest) {
  std::atomic<int> done = 0;
  EXPECT_THROW(in_threads(3, 1'000'000,
                          [&](std::int64_t i) {
                            if (i == 5) throw std::runtime_error("five");
                            ++done;
                          }),
               std::runtime_error);
  EXPECT_LT(done, 1'000'000);
}

TEST(InOrder, ResultsAreTakenInOrderHoweverLongTheyTake) {
  for (const std::int64_t threads : {1, 2, 7}) {
    std::vector<std::int64_t> taken;
    InOrder<std::int64_t>::run(
        threads, 500,
        [](std::int64_t i) {
          volatile std::int64_t work = 0;
          for (std::int64_t k = 0; k < (i * 7919) % 13 * 3000; ++k) work = work + k;
          return i * i;
        },
        [&](std::int64_t i, std::int64_t square) {
          EXPECT_EQ(square, i * i);
          taken.push_back(i);
          return true;
        });
    std::vector<std::int64_t> all(500);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(taken, all);
  }
}

TEST(InOrder, TheFirstErrorInOrderIsSeenAfterAllBeforeIt) {
  std::int64_t taken = 0;
  std::string message;
  try {
    InOrder<std::int64_t>::run(
        4, 100,
        [](std::int64_t i) {
          if (i == 30 || i == 33) throw std::runtime_error(std::to_string(i));
          return i;
        },
        [&](std::int64_t, std::int64_t) {
          ++taken;
          return true;
        });
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  EXPECT_EQ(message, "30");
  EXPECT_EQ(taken, 30);
}

TEST(InOrder, EndsEarlyWhereTheTakerWantsNoMore) {
  std::atomic<std::int64_t> made = 0;
  std::int64_t last = -1;
  InOrder<std::int64_t>::run(
      2, 1'000'000,
      [&](std::int64_t i) {
        ++made;
        return i;
      },
      [&](std::int64_t i, std::int64_t) {
        last = i;
        return i < 10;
      });
  EXPECT_EQ(last, 10);
  EXPECT_LE(made, 11 + 8);  // no more than there are places
}

TEST(InOrder, AnErrorOfTheTakerEndsTheMakers) {
  EXPECT_THROW(InOrder<int>::run(
                   3, 1'000'000, [](std::int64_t) { return 1; },
                   [](std::int64_t, int) -> bool { throw std::runtime_error("taker"); }),
               std::runtime_error);
}

}  // namespace
}  // namespace cosub::data
