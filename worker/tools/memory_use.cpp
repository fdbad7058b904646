#include "worker/tools/memory_use.h"

#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <limits>
#include <memory>
#include <mutex>
#include <string>

namespace cosub::tools {
namespace {

/// Told of every allocation and release; a GPU's backward pass runs on a thread of its own.
class PeakBytes final : public c10::MemoryReportingInfoBase {
 public:
  explicit PeakBytes(c10::DeviceType device) : device_(device) {}
  void reportMemoryUsage(void* /*pointer*/, std::int64_t size, std::size_t /*allocated*/,
                         std::size_t /*reserved*/, c10::Device device) override {
    if (device.type() != device_) return;
    const std::lock_guard lock(mutex_);
    live_ += size;
    peak_ = std::max(peak_, live_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  std::int64_t peak() const { return peak_; }

 private:
  c10::DeviceType device_;
  std::mutex mutex_;
  std::int64_t live_ = 0, peak_ = 0;
};

}  // namespace

std::int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t total_pages = 0, resident_pages = 0;
  statm >> total_pages >> resident_pages;
  return resident_pages * ::sysconf(_SC_PAGESIZE);
}

std::int64_t peak_resident_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  // The kernel keeps it by rough counters, which may lag behind what statm sums.
  return std::max(std::int64_t{usage.ru_maxrss} * 1024, resident_bytes());
}

std::int64_t available_host_bytes() {
  std::ifstream meminfo("/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    std::int64_t kib = 0;
    if (std::sscanf(line.c_str(), "MemAvailable: %" SCNd64 " kB", &kib) == 1) return kib * 1024;
  }
  return std::numeric_limits<std::int64_t>::max();
}

std::int64_t device_peak_bytes(c10::Device device) {
  if (device.is_cpu()) return 0;
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  return stats.allocated_bytes[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
}

std::int64_t peak_tensor_bytes(c10::DeviceType device, const std::function<void()>& work) {
  const auto observer = std::make_shared<PeakBytes>(device);
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, observer);
  work();
  return observer->peak();
}

}  // namespace cosub::tools
