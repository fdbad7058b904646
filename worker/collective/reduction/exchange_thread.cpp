#include "worker/collective/reduction/exchange_thread.h"

#include <utility>

#include "common/process.h"

namespace cosub::collective {

ExchangeThread::ExchangeThread() : thread_([this] { loop(); }) {}

ExchangeThread::~ExchangeThread() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    jobs_.clear();
  }
  changed_.notify_all();
  thread_.join();
}

void ExchangeThread::post(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    if (error_) return;  // wait() tells it
    jobs_.push_back(std::move(job));
  }
  changed_.notify_all();
}

void ExchangeThread::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return jobs_.empty() && !running_; });
  if (error_) std::rethrow_exception(error_);
}

std::chrono::duration<double> ExchangeThread::take_busy() {
  const std::lock_guard lock(mutex_);
  return std::exchange(busy_, {});
}

void ExchangeThread::loop() {
  name_thread("exchange");
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ending_ || !jobs_.empty(); });
    if (ending_) return;
    const std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    running_ = true;
    lock.unlock();
    std::exception_ptr error;
    const auto start = std::chrono::steady_clock::now();
    try {
      job();
    } catch (...) {
      error = std::current_exception();
    }
    const auto busy = std::chrono::steady_clock::now() - start;
    lock.lock();
    busy_ += busy;
    running_ = false;
    if (error) {
      error_ = error;
      jobs_.clear();
    }
    changed_.notify_all();
  }
}

}  // namespace cosub::collective
