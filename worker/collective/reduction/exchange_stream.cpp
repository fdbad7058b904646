#include "worker/collective/reduction/exchange_stream.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace cosub::collective {

ExchangeStream::ExchangeStream(c10::Device device)
    : stream_(c10::impl::VirtualGuardImpl(device.type())
                  .getStreamFromGlobalPool(device, /*isHighPriority=*/true)),
      came_(device.type()),
      done_(device.type()) {}

c10::Stream ExchangeStream::current() const {
  return c10::impl::VirtualGuardImpl(stream_.device_type()).getStream(stream_.device());
}

void ExchangeStream::queue(const std::function<void()>& work) {
  // An event may be recorded again as soon as the wait for it is queued.
  came_.record(current());
  came_.block(stream_);
  used_ = true;
  const c10::StreamGuard guard(stream_);
  work();
}

void ExchangeStream::join() {
  // Without work it is no part of a capture that the current stream is in, and must not be drawn in here.
  if (!used_) return;
  done_.record(stream_);
  done_.block(current());
  used_ = false;
}

}  // namespace cosub::collective
