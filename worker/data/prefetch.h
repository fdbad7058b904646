// Items 0, 1, 2, ... made ahead of time by threads and handed out in order. One thread takes them; the
// prefetcher owns the threads that make them. Nothing waits for ever: a thread that hangs in a read (a
// network file system whose server is gone) is named instead.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/error.h"
#include "common/process.h"

namespace cosub::data {

/// The sample that a thread is reading, for whoever waits for that thread. Thread-safe.
class Activity {
 public:
  using Clock = std::chrono::steady_clock;

  /// Names the sample for as long as `work` runs.
  template <class Work>
  void reading(std::int64_t sample, Work&& work) {
    struct End {
      Activity& activity;
      ~End() { activity.since_ = kIdle; }
    } end{*this};
    sample_ = sample;
    since_ = Clock::now().time_since_epoch().count();
    std::forward<Work>(work)();
  }
  std::int64_t sample() const { return sample_; }
  /// How long it has been at it; zero between reads.
  Clock::duration age() const {
    const std::int64_t since = since_;
    return since == kIdle ? Clock::duration::zero()
                          : Clock::now().time_since_epoch() - Clock::duration(since);
  }

 private:
  static constexpr std::int64_t kIdle = -1;
  std::atomic<std::int64_t> sample_ = 0, since_ = kIdle;
};

struct PrefetchOptions {
  std::int64_t count = 0;    // items
  std::int64_t threads = 1;  // 0: next() makes them
  std::int64_t ahead = 4;    // items ready or in the making at most
  std::chrono::milliseconds read_limit = std::chrono::minutes(5);
};

template <class Item>
class Prefetcher {
 public:
  /// Called from all threads at once; what it captures must live as long as it does: a thread that hangs
  /// outlives the prefetcher.
  using Make = std::function<Item(std::int64_t item, Activity& activity)>;
  /// A sample in words, without touching its storage.
  using Describe = std::function<std::string(std::int64_t sample)>;

  Prefetcher(const PrefetchOptions& options, Make make, Describe describe)
      : state_(std::make_shared<State>(options, std::move(make), std::move(describe))) {
    for (Activity& activity : state_->activities) {
      threads_.emplace_back([state = state_, &activity] {
        name_thread("loader");
        state->work(activity);
      });
    }
  }

  /// Waits for items in the making, but not for a read beyond its limit.
  ~Prefetcher() {
    const bool all_ended = state_->end();
    for (std::thread& thread : threads_) all_ended ? thread.join() : thread.detach();
  }
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  /// Blocks until the next item is there. What `make` threw is thrown here, at every call from then on;
  /// IoError when a read passes its limit; std::logic_error past the end.
  Item next() { return state_->next(); }

 private:
  struct Slot {
    std::optional<Item> item;
    std::exception_ptr error;
    bool is_ready() const { return item || error; }
  };

  struct State {
    State(const PrefetchOptions& options_in, Make make_in, Describe describe_in)
        : options(options_in),
          make(std::move(make_in)),
          describe(std::move(describe_in)),
          slots(std::max<std::int64_t>(1, options.ahead)),
          activities(options.threads),
          num_running(options.threads) {}

    void work(Activity& activity) {
      const auto num_slots = static_cast<std::int64_t>(slots.size());
      std::unique_lock lock(mutex);
      while (true) {
        slot_free.wait(lock,
                       [&] { return stopping || taken == options.count || taken < delivered + num_slots; });
        if (stopping || taken == options.count) break;
        const std::int64_t item = taken++;
        lock.unlock();
        Slot made;
        try {
          made.item = make(item, activity);
        } catch (...) {
          made.error = std::current_exception();
        }
        lock.lock();
        slots[item % num_slots] = std::move(made);
        changed.notify_all();
      }
      --num_running;
      changed.notify_all();
    }

    Item next() {
      std::unique_lock lock(mutex);
      if (delivered == options.count) throw std::logic_error("Prefetcher: next() past the last item");
      if (activities.empty()) {
        Item item = make(delivered, here);
        ++delivered;
        return item;
      }
      Slot& slot = slots[delivered % static_cast<std::int64_t>(slots.size())];
      wait_for(lock, [&] { return slot.is_ready(); });
      if (slot.error) std::rethrow_exception(slot.error);  // stays there for whoever asks again
      Item item = std::move(*slot.item);
      slot.item.reset();
      ++delivered;
      slot_free.notify_one();
      return item;
    }

    /// Whether all threads are through; false when one hangs.
    bool end() {
      std::unique_lock lock(mutex);
      stopping = true;
      slot_free.notify_all();
      try {
        wait_for(lock, [&] { return num_running == 0; });
      } catch (const IoError&) {
        return false;  // told by next(), or nobody needs what it reads
      }
      return true;
    }

    template <class Condition>
    void wait_for(std::unique_lock<std::mutex>& lock, Condition condition) {
      const auto look_again =
          std::min<std::chrono::milliseconds>(options.read_limit, std::chrono::seconds(1));
      while (!changed.wait_for(lock, look_again, condition)) {
        for (const Activity& activity : activities) {
          const Activity::Clock::duration age = activity.age();
          if (age <= options.read_limit) continue;
          throw IoError(
              fmt::format(
                  "{}: still being read after {:.1f} s (data.read_timeout); its storage does not answer",
                  describe(activity.sample()), std::chrono::duration<double>(age).count()),
              ETIMEDOUT);
        }
      }
    }

    const PrefetchOptions options;
    const Make make;
    const Describe describe;
    std::mutex mutex;
    std::condition_variable slot_free, changed;
    std::vector<Slot> slots;                // ring
    std::int64_t taken = 0, delivered = 0;  // items
    std::deque<Activity> activities;        // by thread
    Activity here;                          // of next() where there are no threads
    std::int64_t num_running;
    bool stopping = false;
  };

  std::shared_ptr<State> state_;
  std::vector<std::thread> threads_;
};

}  // namespace cosub::data
