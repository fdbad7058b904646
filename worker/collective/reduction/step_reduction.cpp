#include "worker/collective/reduction/step_reduction.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "worker/collective/reduction/all_reduce_exchange.h"
#include "worker/collective/reduction/compressed_exchange.h"
#include "worker/collective/reduction/grouped_exchange.h"
#include "worker/collective/reduction/tree_exchange.h"

namespace cosub::collective {
namespace {

/// Pieces from the end to the beginning: the backward pass comes to the last parameters first.
std::vector<Range> pieces_of(std::int64_t size, std::int64_t piece) {
  std::vector<Range> pieces;
  for (std::int64_t end = size; end > 0; end -= std::min(piece, end))
    pieces.push_back({std::max<std::int64_t>(0, end - piece), end});
  return pieces;
}

ReductionOptions completed(ReductionOptions options, std::int64_t group_size) {
  if (options.num_microbatches < 1) throw std::invalid_argument("a step needs at least one microbatch");
  if (options.num_microbatches % group_size != 0)
    throw std::invalid_argument("the microbatches of a step must be a multiple of the group's size");
  if (options.buckets.empty()) {
    const auto element_bytes =
        static_cast<std::int64_t>(c10::elementSize(c10::typeMetaToScalarType(options.tensor.dtype())));
    options.buckets =
        pieces_of(options.size, std::max<std::int64_t>(1, options.bucket_bytes / element_bytes));
  }
  return options;
}

std::int64_t size_of(const Communicator* group) {
  return group == nullptr ? 1 : group->world_size();
}

StridedRange owned_by(const Communicator& communicator, const Communicator* group,
                      std::int64_t microbatches) {
  return microbatches_of(communicator.rank(), communicator.world_size(), microbatches, size_of(group));
}

MergePlan merges_of(const StridedRange& owned, const ReductionOptions& options) {
  const Range bundles = {owned.begin / owned.stride, owned.end / owned.stride};
  return options.kind == config::Reduction::kOrdered
             ? tree_merges(bundles, options.num_microbatches / owned.stride)
             : plain_merges(bundles);
}

std::unique_ptr<BucketExchange> exchange_over(Communicator& communicator, const ReductionOptions& options,
                                              std::int64_t num_leaves, bool has_leaves) {
  if (options.kind == config::Reduction::kOrdered) {
    return std::make_unique<TreeExchange>(communicator, num_leaves, options.size, options.tensor,
                                          options.buckets);
  }
  if (!options.compress || communicator.world_size() == 1) {
    return std::make_unique<AllReduceExchange>(communicator, options.size, options.tensor, options.buckets,
                                               has_leaves);
  }
  return std::make_unique<CompressedExchange>(
      communicator, CompressedExchange::Options{.size = options.size,
                                                .tensor = options.tensor,
                                                .buckets = options.buckets,
                                                .first_exact = options.first_exact,
                                                .error_feedback = options.error_feedback,
                                                .has_leaves = has_leaves});
}

std::unique_ptr<BucketExchange> make_exchange(Communicator& communicator, Communicator* group,
                                              const ReductionOptions& options, bool has_leaves) {
  if (group == nullptr) return exchange_over(communicator, options, options.num_microbatches, has_leaves);
  auto column = communicator.split(group->rank(), "ranks at the same place of their groups");
  auto over_bundles =
      exchange_over(*column, options, options.num_microbatches / group->world_size(), has_leaves);
  auto over_places = exchange_over(*group, options, group->world_size(), true);
  return std::make_unique<GroupedExchange>(std::move(column), std::move(over_bundles),
                                           std::move(over_places));
}

}  // namespace

StepReduction::StepReduction(Communicator& communicator, Communicator* group, ReductionOptions options)
    : options_(completed(std::move(options), size_of(group))),
      order_(owned_by(communicator, group, options_.num_microbatches), options_.size, options_.tensor),
      sums_(merges_of(owned_by(communicator, group, options_.num_microbatches), options_), options_.size,
            options_.tensor) {
  const StridedRange owned = owned_by(communicator, group, options_.num_microbatches);
  const bool on_cpu = options_.tensor.device().is_cpu();
  const bool wants_beside = options_.overlap && communicator.world_size() > 1;
  const bool beside = wants_beside && (!on_cpu || communicator.concurrent());
  if (wants_beside && !beside && communicator.rank() == 0) {
    spdlog::warn(
        "exchange.overlap: this MPI lets one thread at a time call it (no MPI_THREAD_MULTIPLE), so gradients "
        "travel after the backward pass instead of during it. Build with an MPI that lets several, as "
        "Debian's "
        "Open MPI does, or set exchange.overlap: false");
  }
  if (beside) {
    own_communicator_ = communicator.split(0, "the exchange of gradients");
    if (group != nullptr) own_group_ = group->split(0, "the exchange of gradients within groups");
    if (on_cpu) {
      thread_ = std::make_unique<ExchangeThread>();
    } else {
      stream_ = std::make_unique<ExchangeStream>(options_.tensor.device());
    }
  }
  exchange_ =
      make_exchange(beside ? *own_communicator_ : communicator,
                    beside && group != nullptr ? own_group_.get() : group, options_, owned.begin < owned.end);
}

StepReduction::~StepReduction() {
  // An error is on its way up: nobody waits any more for what the thread waits for.
  for (Communicator* waiting : {own_communicator_.get(), own_group_.get()})
    if (waiting != nullptr && next_bucket_ != 0) waiting->cancel();
}

void StepReduction::begin(std::int64_t step) {
  order_.begin(step);
  sums_.begin();
  next_bucket_ = 0;
  has_last_ = false;
}

void StepReduction::add(std::int64_t microbatch, const at::Tensor& leaf) {
  const at::NoGradGuard no_grad;
  order_.add(microbatch, leaf);
  sums_.add(leaf);
}

void StepReduction::add_last(std::int64_t microbatch, const at::Tensor& leaf) {
  if (!order_.is_last(microbatch)) throw std::logic_error("add_last: this rank has more microbatches");
  order_.add(microbatch, leaf);
  sums_.add_last(leaf);
  has_last_ = true;
}

void StepReduction::ready(std::size_t bucket) {
  if (bucket != next_bucket_) {
    throw std::logic_error(
        fmt::format("step {}: bucket {} is ready, but {} comes next", order_.step(), bucket, next_bucket_));
  }
  ++next_bucket_;
  const bool merge = has_last_;
  if (thread_) {
    thread_->post([this, bucket, merge] { exchange(bucket, merge); });
  } else if (stream_) {
    // The vectors that the stream works on are kept from step to step, and its temporaries are its own: the
    // allocator gives none of them away before finish() joins the streams.
    stream_->queue([this, bucket, merge] { exchange(bucket, merge); });
  } else {
    const auto start = Clock::now();
    exchange(bucket, merge);
    if (options_.tensor.device().is_cpu()) inline_time_ += Clock::now() - start;
  }
}

void StepReduction::exchange(std::size_t bucket, bool merge) {
  const at::NoGradGuard no_grad;
  const c10::OptionalDeviceGuard guard(
      options_.tensor.device().is_cpu() ? std::nullopt : std::optional<at::Device>(options_.tensor.device()));
  if (merge) sums_.merge_last(options_.buckets[bucket]);
  if (options_.on_bucket) {
    options_.on_bucket(order_.step(), static_cast<std::int64_t>(bucket),
                       static_cast<std::int64_t>(options_.buckets.size()));
  }
  const std::string what =
      fmt::format("step {}, bucket {} of {}", order_.step(), bucket + 1, options_.buckets.size());
  if (thread_) {
    const auto begin = Clock::now();
    own_communicator_->meet(what);
    meetings_.push_back({begin, Clock::now()});
  }
  exchange_->exchange(bucket, sums_.sums(), what);
}

at::Tensor StepReduction::finish() {
  order_.finish();
  while (next_bucket_ < options_.buckets.size()) ready(next_bucket_);
  if (thread_) wait_for_thread();
  if (stream_) stream_->join();
  next_bucket_ = 0;
  return exchange_->total(sums_.sums());
}

void StepReduction::wait_for_thread() {
  const auto begin = Clock::now();
  thread_->wait();
  for (const Meeting& meeting : meetings_) {
    meeting_time_ += meeting.end - meeting.begin;
    wait_for_ranks_ += std::max(Clock::duration::zero(), meeting.end - std::max(meeting.begin, begin));
  }
  meetings_.clear();
}

void StepReduction::settle(const at::Tensor& applies) {
  const at::NoGradGuard no_grad;
  exchange_->settle(applies);
}

std::chrono::duration<double> StepReduction::take_exchange_time() {
  const auto in_line = std::exchange(inline_time_, {});
  return thread_ ? in_line + thread_->take_busy() - std::exchange(meeting_time_, {}) : in_line;
}

std::unique_ptr<StepReduction> make_step_reduction(Communicator& communicator, ReductionOptions options) {
  return std::make_unique<StepReduction>(communicator, nullptr, std::move(options));
}

std::unique_ptr<StepReduction> make_grouped_reduction(Communicator& communicator, Communicator& group,
                                                      ReductionOptions options) {
  return std::make_unique<StepReduction>(communicator, &group, std::move(options));
}

}  // namespace cosub::collective
