// Work on many numbered things by several threads. The calls block until all threads have ended, also when
// an exception leaves them.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace cosub::data {

/// `work(i)` for each i in [0, count), taken one by one by `threads` threads, the calling one among them. The
/// first exception ends it and is thrown here.
void in_threads(std::int64_t threads, std::int64_t count, const std::function<void(std::int64_t)>& work);

/// `make(i)` for each i in [0, count) by `threads` threads of its own, and `take(i, result)` in the order of
/// i by the calling one; `take` returns false to end early. At most kPlacesPerThread results a thread are
/// being made or wait to be taken. An exception of make(i) is thrown here when it is i's turn, so that which
/// one is seen does not depend on the threads.
template <class Result>
class InOrder {
 public:
  using Make = std::function<Result(std::int64_t)>;
  using Take = std::function<bool(std::int64_t, Result)>;

  static void run(std::int64_t threads, std::int64_t count, const Make& make, const Take& take) {
    InOrder work(threads, count, make);
    for (std::int64_t i = 0; i < threads; ++i) work.makers_.emplace_back([&work] { work.make_all(); });
    work.take_all(take);
  }

 private:
  static constexpr std::int64_t kPlacesPerThread = 4;

  struct Place {
    std::optional<Result> result;
    std::exception_ptr error;
  };

  InOrder(std::int64_t threads, std::int64_t count, const Make& make)
      : count_(count), make_(make), places_(threads * kPlacesPerThread) {}
  ~InOrder() {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
    changed_.notify_all();
  }

  Place& place_of(std::int64_t i) { return places_[i % static_cast<std::int64_t>(places_.size())]; }

  void make_all() {
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] {
        return is_over_ || next_ == count_ || next_ < taken_ + static_cast<std::int64_t>(places_.size());
      });
      if (is_over_ || next_ == count_) return;
      const std::int64_t i = next_++;
      lock.unlock();
      Place made;
      try {
        made.result = make_(i);
      } catch (...) {
        made.error = std::current_exception();
      }
      lock.lock();
      place_of(i) = std::move(made);
      changed_.notify_all();
    }
  }

  void take_all(const Take& take) {
    for (std::int64_t i = 0; i < count_; ++i) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return place_of(i).result || place_of(i).error; });
      Place made = std::exchange(place_of(i), {});
      ++taken_;
      changed_.notify_all();
      lock.unlock();
      if (made.error) std::rethrow_exception(made.error);
      if (!take(i, std::move(*made.result))) return;
    }
  }

  const std::int64_t count_;
  const Make& make_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::int64_t next_ = 0, taken_ = 0;
  bool is_over_ = false;
  std::vector<Place> places_;         // of result i: i modulo their number
  std::vector<std::jthread> makers_;  // last: they end before what they use
};

}  // namespace cosub::data
