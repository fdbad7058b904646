#include "worker/model/device_timing.h"

#include <ATen/autocast_mode.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>

namespace cosub::model {
namespace {

double seconds_on_cpu(const std::function<void()>& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// By the device's clock. Products before it keep the device busy until all is queued: in a step it never
/// waits for the host either.
double seconds_on_device(const std::function<void()>& run, at::Device device, int runs) {
  const c10::impl::VirtualGuardImpl guard(device.type());
  const c10::Stream stream = guard.getStream(device);
  c10::Event start(device.type(), c10::EventFlag::BACKEND_DEFAULT),
      end(device.type(), c10::EventFlag::BACKEND_DEFAULT);
  const at::Tensor side = at::zeros({4096, 4096}, at::dtype(at::kFloat).device(device));
  {
    const c10::impl::ExcludeDispatchKeyGuard without_autocast(c10::autocast_dispatch_keyset);
    for (int i = 0; i < 8; ++i) at::mm(side, side);
  }
  start.record(stream);
  for (int i = 0; i < runs; ++i) run();
  end.record(stream);
  end.synchronize();
  return start.elapsedTime(end) / 1000 / runs;
}

}  // namespace

double least_seconds(at::Device device, const std::function<void()>& run) {
  constexpr int kRuns = 5, kRepeats = 3;
  run();  // some build a plan first
  if (device.is_cpu()) return seconds_on_cpu(run);
  run();
  double least = seconds_on_device(run, device, kRuns);
  for (int i = 1; i < kRepeats; ++i) least = std::min(least, seconds_on_device(run, device, kRuns));
  return least;
}

}  // namespace cosub::model
