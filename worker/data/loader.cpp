#include "worker/data/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "worker/data/normalize.h"
#include "worker/data/prefetch.h"
#include "worker/data/train_microbatch.h"

namespace cosub::data {
namespace {

void check_options(const Source& source, const TrainLoader::Options& options) {
  const StepPlan& plan = options.plan;
  if (plan.size != source.size()) throw std::logic_error("TrainLoader: the plan is for another source");
  if (plan.micro < 1 || plan.global < plan.micro || plan.global % plan.micro != 0) {
    throw ConfigError(
        fmt::format("batch.global ({}) must be a multiple of batch.micro ({})", plan.global, plan.micro));
  }
  if (plan.steps_per_epoch() < 1) {
    throw ConfigError(
        fmt::format("batch.global is {}, but data.train holds {} samples only; lower batch.global or raise "
                    "data.train.limit",
                    plan.global, plan.size));
  }
}

/// What the threads share; lives as long as the last of them.
struct Work {
  Work(std::shared_ptr<const Source> source_in, const TrainLoader::Options& options_in)
      : source(std::move(source_in)),
        options(options_in),
        per_step((options.end - options.begin + options.stride - 1) / options.stride),
        maker(*source, options) {}

  std::int64_t num_items() const {
    return std::max<std::int64_t>(0, options.end_step - options.first_step) * per_step;
  }
  PreparedMicrobatch make(std::int64_t item, Activity& activity) {
    return maker.make(options.first_step + item / per_step, options.begin + item % per_step * options.stride,
                      activity);
  }

  const std::shared_ptr<const Source> source;
  const TrainLoader::Options options;
  const std::int64_t per_step;
  MicrobatchMaker maker;
};

std::shared_ptr<Work> make_work(std::shared_ptr<const Source> source, const TrainLoader::Options& options) {
  check_options(*source, options);
  return std::make_shared<Work>(std::move(source), options);
}

}  // namespace

StepPlan plan_of(const config::StageConfig& stage, std::int64_t size) {
  return {
      .size = size, .global = stage.batch.global, .micro = stage.batch.micro, .repeats = stage.data.repeats};
}

Sampler sampler_of(const config::DataConfig& data, std::uint64_t stream, std::int64_t size) {
  if (data.shuffle == config::Shuffle::kFull) return {stream, size};
  return {stream, size, ShuffleWindow{data.shuffle_block, data.shuffle_blocks}};
}

struct TrainLoader::Impl {
  Impl(std::shared_ptr<const Source> source, const Options& options)
      : work(make_work(std::move(source), options)),
        prefetcher(
            {.count = work->num_items(),
             .threads = options.data.loader_threads,
             .ahead = options.prefetch,
             .read_limit = options.data.read_timeout},
            [work = work](std::int64_t item, Activity& activity) { return work->make(item, activity); },
            [work = work](std::int64_t sample) { return work->source->place(sample); }) {}

  std::shared_ptr<Work> work;
  Prefetcher<PreparedMicrobatch> prefetcher;
};

TrainLoader::TrainLoader(std::shared_ptr<const Source> source, const Options& options)
    : impl_(std::make_unique<Impl>(std::move(source), options)) {}
TrainLoader::~TrainLoader() = default;

Microbatch TrainLoader::next() {
  return impl_->work->maker.finish(impl_->prefetcher.next());
}

}  // namespace cosub::data
