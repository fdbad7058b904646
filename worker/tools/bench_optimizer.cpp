#include "worker/tools/bench_optimizer.h"

#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/text.h"
#include "worker/tools/spread.h"
#include "worker/train/adamw.h"
#include "worker/train/device.h"
#include "worker/train/ema.h"

namespace cosub::tools {
namespace {

/// Floats that an update must read and write for each parameter.
constexpr double kAdamwFloats = 7;  // value, gradient, two moments; all but the gradient are written
constexpr double kEmaFloats = 3;    // average, value; the average is written

struct Update {
  std::function<void(at::Tensor values, const at::Tensor& gradients, std::int64_t step)> run;
  double floats_per_parameter = 0;
};

Update make_update(const std::string& name, std::int64_t parameters, at::Device device) {
  config::OptimizerConfig options;
  options.name = name;
  if (name == "adamw") {
    const auto adamw = std::make_shared<train::AdamW>(options, parameters, parameters, device);
    return {[adamw](at::Tensor values, const at::Tensor& gradients, std::int64_t step) {
              adamw->update(std::move(values), gradients, step, 1e-4);
            },
            kAdamwFloats};
  }
  throw ConfigError(fmt::format("--optimizer {}: not known; allowed: adamw", name));
}

struct Measured {
  std::string name;
  Spread update, average;  // seconds
  double update_bytes = 0, average_bytes = 0;
};

Measured measure(const BenchOptimizerOptions& options, const std::string& name, at::Device device) {
  const at::NoGradGuard no_grad;
  const at::TensorOptions tensor = at::dtype(at::kFloat).device(device);
  const Update update = make_update(name, options.parameters, device);
  at::Tensor values = at::randn({options.parameters}, tensor);
  const at::Tensor gradients = at::randn({options.parameters}, tensor);
  train::Ema ema(values, options.ema, /*warmup=*/false);
  const auto timed = [&](const auto& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  std::vector<double> update_seconds, average_seconds;
  for (std::int64_t step = 0; step <= options.steps; ++step) {  // the first one warms up
    const double updating = timed([&] { update.run(values, gradients, step); });
    const double averaging = options.ema > 0 ? timed([&] { ema.update(values, step); }) : 0.0;
    if (step == 0) continue;
    update_seconds.push_back(updating);
    average_seconds.push_back(averaging);
  }
  const double bytes = sizeof(float) * static_cast<double>(options.parameters);
  return {name, Spread::of(update_seconds), Spread::of(average_seconds), update.floats_per_parameter * bytes,
          kEmaFloats * bytes};
}

std::vector<std::string> row(const std::string& name, const Spread& seconds, double bytes) {
  return {name, fmt::format("{:.2f}", seconds.min * 1e3), fmt::format("{:.2f}", seconds.median * 1e3),
          fmt::format("{:.2f}", seconds.max * 1e3), fmt::format("{:.2f}", bytes / seconds.median / 1e9)};
}

std::string text(const BenchOptimizerOptions& options, const std::vector<Measured>& results) {
  std::vector<std::vector<std::string>> rows = {{"", "ms, min", "median", "max", "GB/s"}};
  for (const Measured& measured : results) {
    rows.push_back(row(measured.name, measured.update, measured.update_bytes));
    if (options.ema > 0) rows.push_back(row("  + EMA", measured.average, measured.average_bytes));
  }
  return table(rows);
}

nlohmann::json to_json(const BenchOptimizerOptions& options, const std::vector<Measured>& results) {
  nlohmann::json list = nlohmann::json::array();
  for (const Measured& measured : results) {
    nlohmann::json entry = {{"name", measured.name},
                            {"seconds", measured.update.json()},
                            {"bytes_per_second", measured.update_bytes / measured.update.median}};
    if (options.ema > 0) {
      entry["ema_seconds"] = measured.average.json();
      entry["ema_bytes_per_second"] = measured.average_bytes / measured.average.median;
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
  const train::DeviceChoice choice = train::choose_device(*ranks, options.device);
  std::vector<Measured> results;
  for (const std::string& name : options.optimizers) results.push_back(measure(options, name, choice.device));
  fmt::print("{} parameters on {}, {} thread(s), {} steps; GB/s of what must be read and written\n\n{}",
             format_count(static_cast<double>(options.parameters)), choice.device.str(), options.threads,
             options.steps, text(options, results));
  if (!options.json.empty()) write_file_atomically(options.json, to_json(options, results).dump(1) + "\n");
  return ExitCode::kDone;
}

}  // namespace cosub::tools
