#include "worker/tools/bench_allreduce.h"

#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/config/names.h"
#include "common/error.h"
#include "common/text.h"
#include "worker/collective/reduction/step_reduction.h"
#include "worker/tools/output_file.h"
#include "worker/tools/spread.h"
#include "worker/train/device.h"

namespace cosub::tools {
namespace {

constexpr std::int64_t kWarmUp = 2;

struct MeasuredReduction {
  std::int64_t bytes = 0;
  config::Reduction kind = config::Reduction::kFast;
  Spread seconds;  // of the slowest rank
};

std::int64_t repeats_of(std::int64_t bytes) {
  return std::clamp<std::int64_t>((std::int64_t{128} << 20) / bytes, 5, 100);
}

void synchronize(at::Device device) {
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

void check_sum(const at::Tensor& sum, std::int64_t world_size, std::int64_t bytes) {
  const auto wanted = static_cast<float>(world_size * (world_size + 1) / 2);
  const at::Tensor wrong = sum.ne(wanted).sum();
  if (wrong.item<std::int64_t>() > 0)
    throw CollectiveError(fmt::format("all-reduce of {} bytes over {} ranks: {} of {} sums are wrong", bytes,
                                      world_size, wrong.item<std::int64_t>(), sum.numel()));
}

MeasuredReduction measure(collective::Communicator& communicator, at::Device device, config::Reduction kind,
                          std::int64_t bytes) {
  const std::int64_t size = bytes / static_cast<std::int64_t>(sizeof(float));
  const std::int64_t world_size = communicator.world_size(), repeats = repeats_of(bytes);
  const at::TensorOptions tensor = at::dtype(at::kFloat).device(device);
  const auto reduction = collective::make_step_reduction(
      communicator, {.kind = kind, .num_microbatches = world_size, .size = size, .tensor = tensor});
  at::Tensor leaf = at::empty({size}, tensor), seconds = at::zeros({repeats}, tensor.dtype(at::kDouble));
  for (std::int64_t i = -kWarmUp; i < repeats; ++i) {
    leaf.fill_(static_cast<double>(communicator.rank() + 1));
    reduction->begin(i + kWarmUp);
    reduction->add_last(communicator.rank(), leaf);
    synchronize(device);
    communicator.barrier("the next all-reduce");
    const auto start = std::chrono::steady_clock::now();
    const at::Tensor sum = reduction->finish();
    synchronize(device);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (i < 0)
      check_sum(sum, world_size, bytes);
    else
      seconds[i].fill_(took.count());
  }
  std::vector<at::Tensor> all;
  for (std::int64_t rank = 0; rank < world_size; ++rank) all.push_back(at::zeros_like(seconds));
  communicator.all_gather(seconds, all, "the times of the ranks");
  const at::Tensor slowest = std::get<0>(at::stack(all).max(0)).cpu();
  const double* values = slowest.const_data_ptr<double>();
  return {bytes, kind, Spread::of({values, values + repeats})};
}

double bus_factor(std::int64_t world_size) {
  return 2.0 * static_cast<double>(world_size - 1) / static_cast<double>(world_size);
}

std::string text(const std::vector<MeasuredReduction>& results, std::int64_t world_size) {
  std::vector<std::vector<std::string>> rows = {
      {"size", "reduction", "us, min", "median", "max", "algorithm GB/s, min", "median", "max", "bus GB/s"}};
  for (const MeasuredReduction& measured : results) {
    const auto bytes = static_cast<double>(measured.bytes);
    const Spread rate = measured.seconds.per(bytes);
    const auto cell = [](double value, int digits) { return fmt::format("{:.{}f}", value, digits); };
    rows.push_back({format_bytes(bytes), name_of(config::kReductionNames, measured.kind),
                    cell(measured.seconds.min * 1e6, 1), cell(measured.seconds.median * 1e6, 1),
                    cell(measured.seconds.max * 1e6, 1), cell(rate.min / 1e9, 3), cell(rate.median / 1e9, 3),
                    cell(rate.max / 1e9, 3), cell(rate.median * bus_factor(world_size) / 1e9, 3)});
  }
  return table(rows);
}

nlohmann::json to_json(const std::vector<MeasuredReduction>& results, std::int64_t world_size,
                       const std::string& communicator) {
  nlohmann::json sizes = nlohmann::json::array();
  for (const MeasuredReduction& measured : results) {
    const Spread rate = measured.seconds.per(static_cast<double>(measured.bytes));
    sizes.push_back({{"bytes", measured.bytes},
                     {"reduction", name_of(config::kReductionNames, measured.kind)},
                     {"seconds", measured.seconds.json()},
                     {"algorithm_bytes_per_second", rate.json()},
                     {"bus_bytes_per_second", rate.median * bus_factor(world_size)}});
  }
  return {{"ranks", world_size}, {"communicator", communicator}, {"sizes", std::move(sizes)}};
}

}  // namespace

ExitCode run_bench_allreduce(const BenchAllreduceOptions& options) {
  if (options.from_bytes < 4 || options.from_bytes > options.to_bytes)
    throw ConfigError(fmt::format("--from {} --to {}: sizes must ascend from at least 4 bytes",
                                  options.from_bytes, options.to_bytes));
  at::set_num_threads(static_cast<int>(options.threads));
  const auto ranks = collective::connect();
  if (ranks->rank() == 0) check_output_file("--json", options.json);
  const train::DeviceChoice choice = train::choose_device(*ranks, options.device);
  collective::Communicator& communicator = *choice.communicator;
  std::vector<MeasuredReduction> results;
  for (std::int64_t bytes = options.from_bytes; bytes <= options.to_bytes; bytes *= 4)
    for (const config::Reduction kind : {config::Reduction::kFast, config::Reduction::kOrdered})
      results.push_back(measure(communicator, choice.device, kind, bytes));
  if (ranks->rank() == 0) {
    fmt::print("{} rank(s) over {}, {}; times of the slowest rank{}\n\n{}", ranks->world_size(),
               communicator.name(), choice.device.str(),
               ranks->world_size() == 1 ? "; with one rank nothing travels" : "",
               text(results, ranks->world_size()));
    if (!options.json.empty())
      write_file_atomically(options.json,
                            to_json(results, ranks->world_size(), communicator.name()).dump(1) + "\n");
  }
  ranks->barrier("the end of bench allreduce");
  return ExitCode::kDone;
}

}  // namespace cosub::tools
