#include "worker/data/loader.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "common/error.h"
#include "worker/data/normalize.h"

namespace cosub::data {
namespace {

constexpr std::int64_t kSeenBeforeJudging =
    100;  // below that one bad sample would be above any sensible share

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
  const Normalizer checks_mean_and_std(options.data, source.channels());
}

/// What the ones that were replaced say about the set: counts and logs them, and ends the run above the
/// limit.
class BadSamples {
 public:
  explicit BadSamples(double max_share) : max_share_(max_share) {}

  void judge(const Microbatch& microbatch) {
    for (const std::string& reason : microbatch.bad_reasons) {
      if (logged_.insert(reason).second)
        spdlog::warn("step {}: bad sample replaced: {}", microbatch.step, reason);
    }
    seen_ += microbatch.images.size(0) + microbatch.bad_samples;
    bad_ += microbatch.bad_samples;
    if (!microbatch.bad_reasons.empty()) last_ = microbatch.bad_reasons.back();
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
  std::set<std::string> logged_;
};

}  // namespace

StepPlan plan_of(const config::StageConfig& stage, std::int64_t size) {
  return {
      .size = size, .global = stage.batch.global, .micro = stage.batch.micro, .repeats = stage.data.repeats};
}

Sampler sampler_of(const config::DataConfig& data, std::uint64_t stream, std::int64_t size) {
  if (data.shuffle == config::Shuffle::kFull) return {stream, size};
  return {stream, size, ShuffleWindow{data.shuffle_block, data.shuffle_blocks}};
}

/// Tickets count microbatches from 0. A thread takes the next ticket as soon as its slot in the ring is free,
/// and leaves the microbatch (or the exception it met) there; next() takes them out in order.
struct TrainLoader::Impl {
  struct Slot {
    std::optional<Microbatch> microbatch;
    std::exception_ptr error;
    bool ready = false;
  };

  Impl(std::shared_ptr<const Source> source_in, Options options_in)
      : source(std::move(source_in)),
        options(std::move(options_in)),
        per_step((options.end - options.begin + options.stride - 1) / options.stride),
        num_tickets(std::max<std::int64_t>(0, options.end_step - options.first_step) * per_step),
        bad_samples(options.data.max_bad_share),
        slots(std::max<std::int64_t>(1, options.prefetch)) {
    check_options(*source, options);
    for (std::int64_t i = 0; i < options.data.loader_threads; ++i) {
      threads.emplace_back([this](const std::stop_token& stop) { work(stop); });
    }
  }

  ~Impl() {
    for (auto& thread : threads) thread.request_stop();
    threads.clear();  // joins, while everything they use is still there
  }

  Microbatch make(std::int64_t ticket) const {
    return make_train_microbatch(*source, options, options.first_step + ticket / per_step,
                                 options.begin + ticket % per_step * options.stride);
  }

  void work(const std::stop_token& stop) {
    const auto num_slots = static_cast<std::int64_t>(slots.size());
    std::unique_lock lock(mutex);
    while (true) {
      const bool has_work =
          slot_free.wait(lock, stop, [&] { return taken < std::min(num_tickets, delivered + num_slots); });
      if (!has_work || stop.stop_requested()) return;
      const std::int64_t ticket = taken++;
      lock.unlock();
      Slot made;
      try {
        made.microbatch = make(ticket);
      } catch (...) {
        made.error = std::current_exception();
      }
      made.ready = true;
      lock.lock();
      slots[ticket % num_slots] = std::move(made);
      slot_ready.notify_all();
    }
  }

  Microbatch next() {
    if (delivered >= num_tickets)
      throw std::logic_error("TrainLoader: next() called past the last microbatch");
    Microbatch result = threads.empty() ? make_here() : take();
    bad_samples.judge(result);
    return result;
  }

  Microbatch make_here() {
    Microbatch result = make(delivered);
    ++delivered;
    return result;
  }

  Microbatch take() {
    std::unique_lock lock(mutex);
    Slot& slot = slots[delivered % static_cast<std::int64_t>(slots.size())];
    slot_ready.wait(lock, [&] { return slot.ready; });
    if (slot.error) std::rethrow_exception(slot.error);  // stays there: whoever asks again gets it again
    Microbatch result = std::move(*slot.microbatch);
    slot = {};
    ++delivered;
    slot_free.notify_one();
    return result;
  }

  std::shared_ptr<const Source> source;
  Options options;
  std::int64_t per_step, num_tickets;
  BadSamples bad_samples;  // next()'s caller only

  std::mutex mutex;
  std::condition_variable_any slot_free, slot_ready;
  std::vector<Slot> slots;                // ring; guarded by mutex
  std::int64_t taken = 0, delivered = 0;  // tickets; guarded by mutex where there are threads
  std::vector<std::jthread> threads;
};

TrainLoader::TrainLoader(std::shared_ptr<const Source> source, Options options)
    : impl_(std::make_unique<Impl>(std::move(source), std::move(options))) {}
TrainLoader::~TrainLoader() = default;
Microbatch TrainLoader::next() {
  return impl_->next();
}

}  // namespace cosub::data
