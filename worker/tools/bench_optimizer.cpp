#include "worker/tools/bench_optimizer.h"

#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/text.h"
#include "worker/tools/memory_use.h"
#include "worker/tools/output_file.h"
#include "worker/tools/spread.h"
#include "worker/train/device.h"
#include "worker/train/ema.h"
#include "worker/train/optimizer.h"

namespace cosub::tools {
namespace {

constexpr double kEmaFloats = 2;  // by parameter: the average is read and written; the value is in a register

/// Floats that an update must read and write for each parameter: value, gradient and what the rule remembers;
/// all but the gradient are written.
double floats_of(const train::Optimizer& optimizer) {
  return 3 + 2 * static_cast<double>(optimizer.state().size());
}

/// Tensors of the size of a ViT's, in one group.
std::unique_ptr<train::Optimizer> make_optimizer(const std::string& name, const at::Tensor& values) {
  constexpr std::int64_t kTensorFloats = 384 * 1536;
  config::OptimizerConfig options;
  options.name = name;
  train::ParameterGroup group{.begin = 0, .end = values.numel()};
  for (std::int64_t begin = 0; begin < values.numel(); begin += kTensorFloats) {
    const std::int64_t size = std::min(kTensorFloats, values.numel() - begin);
    group.parameters.push_back({"", values.narrow(0, begin, size), begin, size});
  }
  return train::make_optimizer(options, {group}, values);
}

/// Before anything is allocated: a host that lacks the memory may grant it and end the process later.
void check_memory(const BenchOptimizerOptions& options) {
  constexpr double kOtherFloats = 3;  // by parameter: value, gradient, average
  const double available = static_cast<double>(available_host_bytes());
  for (const std::string& name : options.optimizers) {
    const auto num_states = static_cast<double>(make_optimizer(name, at::zeros({1}))->state().size());
    const double needed =
        sizeof(float) * (kOtherFloats + num_states) * static_cast<double>(options.parameters);
    if (needed <= available) continue;
    throw ConfigError(fmt::format(
        "--parameters {}: {} needs {} ({:.0f} bytes) of memory; this host has {} ({:.0f} bytes) available",
        options.parameters, name, format_bytes(needed), needed, format_bytes(available), available));
  }
}

struct MeasuredOptimizer {
  std::string name;
  Spread update, with_average;  // seconds
  double update_bytes = 0, with_average_bytes = 0;
};

MeasuredOptimizer measure(const BenchOptimizerOptions& options, const std::string& name, at::Device device) {
  const at::NoGradGuard no_grad;
  const at::TensorOptions tensor = at::dtype(at::kFloat).device(device);
  at::Tensor values = at::randn({options.parameters}, tensor);
  const auto optimizer = make_optimizer(name, values);
  const at::Tensor gradients = at::randn({options.parameters}, tensor);
  train::Ema ema(values, options.ema, /*warmup=*/false);
  const train::UpdateScalars scalars(device);
  scalars.tensor().copy_(at::tensor({1.0, 0.0, 1e-4, 1.0, 1.0}, at::kDouble));
  const auto timed = [&](const auto& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  std::vector<double> update_seconds, average_seconds;
  for (std::int64_t step = 0; step <= options.steps; ++step) {  // the first one warms up
    const double alone = timed([&] { optimizer->update(values, gradients, scalars, nullptr); });
    const double with_ema =
        options.ema > 0 ? timed([&] { optimizer->update(values, gradients, scalars, &ema); }) : 0.0;
    scalars.at(train::UpdateScalars::kUpdates).add_(1);
    if (step == 0) continue;
    update_seconds.push_back(alone);
    average_seconds.push_back(with_ema);
  }
  const double bytes = sizeof(float) * static_cast<double>(options.parameters);
  return {name, Spread::of(update_seconds), Spread::of(average_seconds), floats_of(*optimizer) * bytes,
          (floats_of(*optimizer) + kEmaFloats) * bytes};
}

std::vector<std::string> row(const std::string& name, const Spread& seconds, double bytes) {
  return {name, fmt::format("{:.2f}", seconds.min * 1e3), fmt::format("{:.2f}", seconds.median * 1e3),
          fmt::format("{:.2f}", seconds.max * 1e3), fmt::format("{:.2f}", bytes / seconds.median / 1e9)};
}

std::string text(const BenchOptimizerOptions& options, const std::vector<MeasuredOptimizer>& results) {
  std::vector<std::vector<std::string>> rows = {{"", "ms, min", "median", "max", "GB/s"}};
  for (const MeasuredOptimizer& measured : results) {
    rows.push_back(row(measured.name, measured.update, measured.update_bytes));
    if (options.ema > 0)
      rows.push_back(row("  with EMA", measured.with_average, measured.with_average_bytes));
  }
  return table(rows);
}

nlohmann::json to_json(const BenchOptimizerOptions& options, const std::vector<MeasuredOptimizer>& results) {
  nlohmann::json list = nlohmann::json::array();
  for (const MeasuredOptimizer& measured : results) {
    nlohmann::json entry = {{"name", measured.name},
                            {"seconds", measured.update.json()},
                            {"bytes_per_second", measured.update_bytes / measured.update.median}};
    if (options.ema > 0) {
      entry["with_ema_seconds"] = measured.with_average.json();
      entry["with_ema_bytes_per_second"] = measured.with_average_bytes / measured.with_average.median;
    }
    list.push_back(std::move(entry));
  }
  return {{"parameters", options.parameters}, {"threads", options.threads}, {"optimizers", std::move(list)}};
}

}  // namespace

ExitCode run_bench_optimizer(const BenchOptimizerOptions& options) {
  at::set_num_threads(static_cast<int>(options.threads));
  const auto ranks = collective::connect();
  if (ranks->world_size() > 1)
    throw ConfigError(fmt::format("bench optimizer: for one rank; found {}", ranks->world_size()));
  check_output_file("--json", options.json);
  const train::DeviceChoice choice = train::choose_device(*ranks, options.device);
  if (choice.device.is_cpu()) check_memory(options);
  std::vector<MeasuredOptimizer> results;
  for (const std::string& name : options.optimizers) results.push_back(measure(options, name, choice.device));
  fmt::print("{} parameters on {}, {} thread(s), {} steps; GB/s of what must be read and written\n\n{}",
             format_count(options.parameters), choice.device.str(), options.threads, options.steps,
             text(options, results));
  if (!options.json.empty()) write_file_atomically(options.json, to_json(options, results).dump(1) + "\n");
  return ExitCode::kDone;
}

}  // namespace cosub::tools
