// One thread that runs jobs in the order in which they come: the exchange of gradient buckets, while the
// trainer's thread computes the next ones. MPI makes progress only inside its calls, so somebody must be in
// one. Jobs are posted by the threads of the backward pass and waited for by the trainer's.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace cosub::collective {

class ExchangeThread {
 public:
  ExchangeThread();
  /// Jobs that have not begun are dropped; the one that runs is waited for (cancel its communicator first).
  ~ExchangeThread();
  ExchangeThread(const ExchangeThread&) = delete;
  ExchangeThread& operator=(const ExchangeThread&) = delete;

  void post(std::function<void()> job);
  /// Until all jobs are done. Throws what the first failing job threw; those after it were dropped.
  void wait();
  /// Time spent in jobs since the last call.
  std::chrono::duration<double> take_busy();

 private:
  void loop();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;  // guarded by mutex_, as all below
  bool running_ = false, ending_ = false;
  std::exception_ptr error_;
  std::chrono::duration<double> busy_{0};
  std::thread thread_;
};

}  // namespace cosub::collective
