#include "worker/model/device_timing.h"

#include <ATen/autocast_mode.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>

namespace cosub::model {
namespace {

double seconds_on_cpu(const std::function<void()>& run, int runs) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < runs; ++i) run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / runs;
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
    for (int i = 0; i < 32; ++i) at::mm(side, side);
  }
  start.record(stream);
  for (int i = 0; i < runs; ++i) run();
  end.record(stream);
  end.synchronize();
  return start.elapsedTime(end) / 1000 / runs;
}

}  // namespace

double least_seconds(at::Device device, const std::function<void()>& run) {
  constexpr int kWarmUps = 2, kRuns = 5, kRepeats = 3;
  for (int i = 0; i < kWarmUps; ++i) run();  // some build a plan first
  double least = 0;
  for (int i = 0; i < kRepeats; ++i) {
    const double seconds =
        device.is_cpu() ? seconds_on_cpu(run, kRuns) : seconds_on_device(run, device, kRuns);
    least = i == 0 ? seconds : std::min(least, seconds);
  }
  return least;
}

}  // namespace cosub::model
