#include "worker/tools/operator_trace.h"

#include <fmt/format.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <map>
#include <set>

#include "common/error.h"
#include "common/text.h"

namespace cosub::tools {
namespace {

namespace profiler = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;

struct Open {
  std::uint64_t end;
  OperatorTime* time;
};

using Times = std::map<std::string, OperatorTime>;

void count(OperatorTime& time, const profiler::KinetoEvent& event) {
  time.name = event.name();
  time.seconds += static_cast<double>(event.durationNs()) * 1e-9;
  ++time.calls;
}

/// Events of one thread lie within each other: what an inner one takes is not the outer one's own.
void add_thread(std::vector<const profiler::KinetoEvent*> events, Times& times) {
  std::sort(events.begin(), events.end(), [](const auto* a, const auto* b) {
    return std::pair(a->startNs(), b->durationNs()) < std::pair(b->startNs(), a->durationNs());
  });
  std::vector<Open> open;
  for (const profiler::KinetoEvent* event : events) {
    while (!open.empty() && open.back().end <= event->startNs()) open.pop_back();
    OperatorTime& time = times[event->name()];
    count(time, *event);
    if (!open.empty()) open.back().time->seconds -= static_cast<double>(event->durationNs()) * 1e-9;
    open.push_back({event->endNs(), &time});
  }
}

std::vector<OperatorTime> own_times(const std::vector<profiler::KinetoEvent>& events, bool of_kernels) {
  Times times;
  std::map<std::uint64_t, std::vector<const profiler::KinetoEvent*>> threads;
  for (const profiler::KinetoEvent& event : events) {
    if ((event.deviceType() != c10::DeviceType::CPU) != of_kernels || event.isAsync()) continue;
    if (of_kernels)
      count(times[event.name()], event);
    else
      threads[event.startThreadId()].push_back(&event);
  }
  for (auto& [thread, of_thread] : threads) add_thread(std::move(of_thread), times);

  std::vector<OperatorTime> sorted;
  for (auto& [name, time] : times) sorted.push_back(std::move(time));
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::pair(-a.seconds, a.name) < std::pair(-b.seconds, b.name);
  });
  return sorted;
}

std::vector<KernelRun> kernel_runs(const std::vector<profiler::KinetoEvent>& events) {
  std::vector<KernelRun> runs;
  for (const profiler::KinetoEvent& event : events) {
    if (event.deviceType() != c10::DeviceType::CPU && !event.isAsync())
      runs.push_back({event.startNs(), event.endNs(), is_communication(event.name())});
  }
  return runs;
}

}  // namespace

OperatorTrace trace_operators(const std::filesystem::path& file, at::Device device,
                              const std::function<void()>& work) {
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
  std::set<ActivityType> activities = {ActivityType::CPU};
  if (device.is_cuda()) activities.insert(ActivityType::CUDA);
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities,
                           {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION});
  try {
    work();
  } catch (...) {
    profiler::disableProfiler();
    throw;
  }
  const auto result = profiler::disableProfiler();
  std::error_code was_not_there;
  std::filesystem::remove(file, was_not_there);
  result->save(file.string());  // says nothing of its failures
  if (!std::filesystem::exists(file)) throw IoError(fmt::format("{}: cannot write the trace", file.string()));
  return {own_times(result->events(), device.is_cuda()), device_use(kernel_runs(result->events()))};
}

namespace {

/// The name of a kernel that is made from templates may take a page; its end says the least.
std::string shortened(const std::string& name) {
  constexpr std::size_t kMost = 90;
  return name.size() <= kMost ? name : name.substr(0, kMost - 3) + "...";
}

}  // namespace

std::string operator_table(const std::vector<OperatorTime>& operators, std::int64_t steps, std::size_t most) {
  double total = 0;
  for (const OperatorTime& time : operators) total += time.seconds;
  std::vector<std::vector<std::string>> rows = {{"operator", "own ms", "share %", "calls"}};
  const auto row = [&](const std::string& name, double seconds, std::int64_t calls) {
    const double per_step = static_cast<double>(steps);
    rows.push_back({shortened(name), fmt::format("{:.1f}", 1e3 * seconds / per_step),
                    fmt::format("{:.1f}", total > 0 ? 100 * seconds / total : 0.0),
                    fmt::format("{:.0f}", static_cast<double>(calls) / per_step)});
  };
  OperatorTime rest;
  for (std::size_t i = 0; i < operators.size(); ++i) {
    if (i < most) {
      row(operators[i].name, operators[i].seconds, operators[i].calls);
    } else {
      rest.seconds += operators[i].seconds;
      rest.calls += operators[i].calls;
    }
  }
  if (operators.size() > most)
    row(fmt::format("{} others", operators.size() - most), rest.seconds, rest.calls);
  return table(rows);
}

}  // namespace cosub::tools
