#include "worker/data/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "common/error.h"
#include "worker/data/normalize.h"
#include "worker/data/prefetch.h"
#include "worker/data/train_microbatch.h"

namespace cosub::data {
namespace {

// Below that one bad sample would be above any sensible share.
constexpr std::int64_t kSeenBeforeJudging = 100;

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

/// What the ones that were replaced say about the set: ends the run above the limit.
class BadShare {
 public:
  explicit BadShare(double max_share) : max_share_(max_share) {}

  void judge(const Microbatch& microbatch) {
    const auto num_bad = static_cast<std::int64_t>(microbatch.bad.size());
    seen_ += microbatch.images.size(0) + num_bad;
    bad_ += num_bad;
    if (num_bad > 0) last_ = microbatch.bad.back().reason;
    const double share = static_cast<double>(bad_) / static_cast<double>(seen_);
    if (seen_ < kSeenBeforeJudging || share <= max_share_) return;
    throw DataError(fmt::format(
        "{} of {} samples read until step {} are bad ({:.2f} %; data.max_bad_share allows {:.2f} %), the "
        "last one: {}. Repair the data, or raise data.max_bad_share",
        bad_, seen_, microbatch.step, 100 * share, 100 * max_share_, last_));
  }

 private:
  double max_share_;
  std::int64_t seen_ = 0, bad_ = 0;
  std::string last_;
};

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
        bad_share(options.data.max_bad_share),
        prefetcher(
            {.count = work->num_items(),
             .threads = options.data.loader_threads,
             .ahead = options.prefetch,
             .read_limit = options.data.read_timeout},
            [work = work](std::int64_t item, Activity& activity) { return work->make(item, activity); },
            [work = work](std::int64_t sample) { return work->source->place(sample); }) {}

  std::shared_ptr<Work> work;
  BadShare bad_share;
  Prefetcher<PreparedMicrobatch> prefetcher;
};

TrainLoader::TrainLoader(std::shared_ptr<const Source> source, const Options& options)
    : impl_(std::make_unique<Impl>(std::move(source), options)) {}
TrainLoader::~TrainLoader() = default;

Microbatch TrainLoader::next() {
  Microbatch result = impl_->work->maker.finish(impl_->prefetcher.next());
  impl_->bad_share.judge(result);
  return result;
}

}  // namespace cosub::data
