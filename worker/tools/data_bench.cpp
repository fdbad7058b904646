#include "worker/tools/data_bench.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/data/source.h"

namespace cosub::tools {
namespace {

constexpr std::int64_t kWarmUpImages = 2000;

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Measured {
  std::int64_t images = 0, bad = 0;
  double wall = 0, cpu = 0;
};

Measured measure(data::TrainLoader& loader, std::int64_t batch, double seconds) {
  using Clock = std::chrono::steady_clock;
  Measured measured;
  const Clock::time_point start = Clock::now();
  const double cpu_start = cpu_seconds();
  do {
    measured.bad += static_cast<std::int64_t>(loader.next().bad.size());
    measured.images += batch;
    measured.wall = std::chrono::duration<double>(Clock::now() - start).count();
  } while (measured.wall < seconds);
  measured.cpu = cpu_seconds() - cpu_start;
  return measured;
}

}  // namespace

ExitCode run_data_bench(const DataBenchOptions& options) {
  const config::DataConfig& data = options.data;
  const std::shared_ptr<const data::Source> source =
      data::open_source(options.source.get(), options.channels, data::kAnyLabel);
  if (source->size() < options.batch) {
    throw ConfigError(fmt::format("--batch {}: there are only {} samples", options.batch, source->size()));
  }
  std::int64_t classes = 1;
  for (std::int64_t i = 0; i < source->size(); ++i) classes = std::max(classes, source->label(i) + 1);
  data::TrainLoader loader(source,
                           {.data = data,
                            .classes = classes,
                            .image_size = options.image_size,
                            .plan = {.size = source->size(), .global = options.batch, .micro = options.batch},
                            .end_step = std::numeric_limits<std::int32_t>::max(),
                            .end = 1,
                            .prefetch = 2 * data.loader_threads,
                            .delivery = options.delivery});
  for (std::int64_t seen = 0; seen < std::min(kWarmUpImages, source->size()); seen += options.batch) {
    loader.next();
  }
  const Measured measured = measure(loader, options.batch, options.seconds);
  const double images = static_cast<double>(measured.images);
  if (options.json) {
    const nlohmann::json json = {{"images", measured.images},
                                 {"bad_samples", measured.bad},
                                 {"threads", data.loader_threads},
                                 {"wall_seconds", measured.wall},
                                 {"cpu_seconds", measured.cpu},
                                 {"images_per_second", images / measured.wall},
                                 {"images_per_cpu_second", images / measured.cpu}};
    fmt::print("{}\n", json.dump());
  } else {
    fmt::print("{:.0f} images/s with {} thread{}, {:.0f} images per CPU second ({} images in {:.1f} s",
               images / measured.wall, data.loader_threads, data.loader_threads == 1 ? "" : "s",
               images / measured.cpu, measured.images, measured.wall);
    fmt::print("{})\n", measured.bad > 0 ? fmt::format(", {} bad ones replaced", measured.bad) : "");
  }
  return ExitCode::kDone;
}

}  // namespace cosub::tools
