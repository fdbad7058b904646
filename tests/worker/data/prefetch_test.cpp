// Order, errors, and what becomes of a thread that hangs.
#include "worker/data/prefetch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>

namespace cosub::data {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

/// Storage that answers when it is told to.
class Gate {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    is_open_ = true;
    opened_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    opened_.wait(lock, [this] { return is_open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool is_open_ = false;
};

std::string describe(std::int64_t sample) {
  return "shard-3.tar: byte " + std::to_string(512 * sample);
}

TEST(Prefetcher, HandsItemsOutInOrderHoweverManyThreadsMakeThem) {
  for (const std::int64_t threads : {0, 1, 2, 7}) {
    Prefetcher<int> prefetcher(
        {.count = 200, .threads = threads, .ahead = 5},
        [](std::int64_t item, Activity&) { return static_cast<int>(3 * item); }, describe);
    for (int i = 0; i < 200; ++i) ASSERT_EQ(prefetcher.next(), 3 * i);
    EXPECT_THROW(prefetcher.next(), std::logic_error);
  }
}

TEST(Prefetcher, MakesNoMoreThanItIsToldToKeepAhead) {
  std::atomic<int> made = 0;
  Prefetcher<int> prefetcher(
      {.count = 100, .threads = 3, .ahead = 4}, [&](std::int64_t, Activity&) { return ++made; }, describe);
  for (int i = 0; i < 10; ++i) {
    prefetcher.next();
    EXPECT_LE(made, i + 1 + 4);
  }
}

TEST(Prefetcher, AnErrorArrivesAtItsPlaceAndStays) {
  Prefetcher<int> prefetcher(
      {.count = 9, .threads = 2},
      [](std::int64_t item, Activity&) {
        if (item == 3) throw DataError("item 3 is bad");
        return static_cast<int>(item);
      },
      describe);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(prefetcher.next(), i);
  EXPECT_THROW(prefetcher.next(), DataError);
  EXPECT_THROW(prefetcher.next(), DataError);
}

TEST(Prefetcher, AReadThatHangsIsNamedAndHoldsNobodyUp) {
  const auto gate = std::make_shared<Gate>();
  {
    Prefetcher<int> prefetcher(
        {.count = 9, .threads = 2, .read_limit = milliseconds(400)},
        [gate](std::int64_t item, Activity& activity) {
          activity.reading(item, [&] {
            if (item == 2) gate->pass();
          });
          return static_cast<int>(item);
        },
        describe);
    EXPECT_EQ(prefetcher.next(), 0);
    EXPECT_EQ(prefetcher.next(), 1);
    try {
      prefetcher.next();
      FAIL() << "the read ended";
    } catch (const IoError& error) {
      EXPECT_EQ(error.error_number(), ETIMEDOUT);
      EXPECT_THAT(error.what(), HasSubstr("shard-3.tar: byte 1024: still being read after"));
      EXPECT_THAT(error.what(), HasSubstr("data.read_timeout"));
    }
  }  // does not wait for the thread that hangs
  gate->open();
}

TEST(Prefetcher, SlowWorkOutsideOfReadsIsNoHang) {
  const auto gate = std::make_shared<Gate>();
  Prefetcher<int> prefetcher(
      {.count = 1, .threads = 1, .read_limit = milliseconds(1)},
      [gate](std::int64_t, Activity& activity) {
        activity.reading(0, [] {});
        gate->pass();
        return 5;
      },
      describe);
  std::thread opener([&] {
    std::this_thread::sleep_for(milliseconds(30));  // longer than the limit: the point of the test
    gate->open();
  });
  EXPECT_EQ(prefetcher.next(), 5);
  opener.join();
}

}  // namespace
}  // namespace cosub::data
