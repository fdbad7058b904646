// A GPU's stream beside the one that computes: the exchange of gradient buckets runs there, while the current
// stream computes the next ones. The host only queues and never waits, so that a CUDA graph may capture it
// all. Through LibTorch's device-generic streams: no CUDA library is needed here.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <functional>

namespace cosub::collective {

/// Used from one thread at a time; which one may change.
class ExchangeStream {
 public:
  explicit ExchangeStream(c10::Device device);
  ExchangeStream(const ExchangeStream&) = delete;
  ExchangeStream& operator=(const ExchangeStream&) = delete;

  /// Makes this the current stream while `work` queues; its operations come after all that is queued on the
  /// current stream now. Memory that `work` takes belongs to this stream; other memory that it uses must
  /// outlive join().
  void queue(const std::function<void()>& work);
  /// What the current stream gets from now on comes after all that was queued here.
  void join();

 private:
  c10::Stream current() const;

  c10::Stream stream_;
  c10::Event came_, done_;
  bool used_ = false;  // since the last join
};

}  // namespace cosub::collective
