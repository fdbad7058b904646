// Adds the microbatches' flat vectors (gradients | batch statistics | logged sums) of a step over all ranks.
//   ordered: one fixed binary tree over microbatch indices: node [lo, hi) = node [lo, mid) + node [mid, hi)
//            with mid = lo + largest power of two below hi - lo. Each rank sums the maximal subtrees inside
//            its contiguous range and the ranks exchange those, so the result has the same bits for any
//            number of ranks.
//   fast:    each rank adds its own in order, then buckets are all-reduced, or exchanged as bfloat16.
// Usage per step, on every rank: begin(step); for each own microbatch ascending: add(m, leaf); finish() ->
// sum. Or, so that the exchange runs while the last leaf is computed: add_last(m, leaf) instead of its add,
// then ready(bucket) for every bucket in the order 0, 1, ... as its numbers become final, then finish().
// On a GPU all of it is queued and nothing waits (communicator.h): leaves and sum are in the order of the
// streams that are current in these calls, each of which must come after the one before. May be captured into
// a CUDA graph, from begin to finish; the graph must end before the reduction does.
#pragma once

#include <ATen/ATen.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/config/pipeline.h"
#include "worker/collective/communicator.h"
#include "worker/collective/reduction/bucket_exchange.h"
#include "worker/collective/reduction/exchange_stream.h"
#include "worker/collective/reduction/exchange_thread.h"
#include "worker/collective/reduction/leaf_order.h"
#include "worker/collective/reduction/leaf_sums.h"
#include "worker/collective/reduction/partition.h"

namespace cosub::collective {

struct ReductionOptions {
  config::Reduction kind = config::Reduction::kOrdered;
  std::int64_t num_microbatches = 1;
  std::int64_t size = 0;                         // n
  at::TensorOptions tensor = at::kFloat;         // dtype and device of leaves and sum
  std::vector<Range> buckets = {};               // disjoint, all of [0, n), in the order of their exchange
  std::int64_t bucket_bytes = 25 * 1024 * 1024;  // where `buckets` is empty: pieces of this size
  bool overlap = false;                          // exchange beside the computation, from ready() on: on CPU
                                                 // in a thread, on a GPU on a stream
  bool compress = false;                         // fast: bfloat16 between the ranks,
  std::int64_t first_exact = 0;                  // for buckets that end at or before this element
  bool error_feedback = false;                   // compress: see compressed_exchange.h
  /// Called by the exchanging thread as it turns to a bucket; on a GPU as the bucket is queued, by who calls
  /// ready() or finish(), and not where a CUDA graph is replayed. May be empty.
  std::function<void(std::int64_t step, std::int64_t bucket, std::int64_t num_buckets)> on_bucket = {};
};

class StepReduction {
 public:
  /// Collective where overlap is on (it takes a communicator of its own). `owned`: this rank's microbatches;
  /// `group`: nullptr, or this rank's group of neighbouring ranks that handle as many neighbouring
  /// microbatches at a time (both outlive the reduction).
  StepReduction(Communicator& communicator, Communicator* group, ReductionOptions options);
  ~StepReduction();
  StepReduction(const StepReduction&) = delete;
  StepReduction& operator=(const StepReduction&) = delete;

  void begin(std::int64_t step);
  /// leaf: [n], contiguous, of options.tensor's dtype and device; copied or added before this returns.
  /// Microbatch is the index within the step; std::logic_error when it is not the next one of this rank.
  void add(std::int64_t microbatch, const at::Tensor& leaf);
  /// The last own one: the leaf is read later, and may be overwritten with the sum.
  void add_last(std::int64_t microbatch, const at::Tensor& leaf);
  /// From any thread, one at a time. Returns at once; std::logic_error when out of order.
  void ready(std::size_t bucket);
  /// Collective. The sum over all microbatches, [n]; valid until the next begin. What is not ready yet is
  /// taken as ready. CollectiveError naming step and bucket when a rank does not come.
  at::Tensor finish();
  /// After finish; applies: [] bool, on the sum's device: whether the step is used or left out. With error
  /// feedback what its rounding lost counts from now on, or never; otherwise nothing happens.
  void settle(const at::Tensor& applies);
  /// What this rank keeps from step to step, [n] each, live, to be saved and set between steps: nothing but
  /// with error feedback.
  std::vector<at::Tensor> kept() const { return exchange_->kept(); }

  const std::vector<Range>& buckets() const { return options_.buckets; }
  bool overlaps() const { return thread_ != nullptr || stream_ != nullptr; }
  /// Time that exchanges have taken since the last call, hidden or not; with a thread without the wait for
  /// ranks that had not come yet. 0 on a GPU: only the GPU knows.
  std::chrono::duration<double> take_exchange_time();
  /// Of the time in finish() since the last call, that which went by until all ranks had come to a bucket:
  /// others were slower. Known where a thread exchanges; elsewhere 0.
  std::chrono::duration<double> take_wait_for_ranks() { return std::exchange(wait_for_ranks_, {}); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Meeting {
    Clock::time_point begin, end;
  };

  void exchange(std::size_t bucket, bool merge);
  void wait_for_thread();

  ReductionOptions options_;
  std::unique_ptr<Communicator> own_communicator_, own_group_;  // the thread's or stream's
  LeafOrder order_;
  LeafSums sums_;
  std::unique_ptr<BucketExchange> exchange_;
  std::size_t next_bucket_ = 0;
  bool has_last_ = false;
  std::chrono::duration<double> inline_time_{0}, meeting_time_{0}, wait_for_ranks_{0};
  std::vector<Meeting> meetings_;  // the thread's until it is waited for
  // Neither: exchanged where ready() and finish() are called. The thread last: it uses all the others.
  std::unique_ptr<ExchangeStream> stream_;
  std::unique_ptr<ExchangeThread> thread_;
};

std::unique_ptr<StepReduction> make_step_reduction(Communicator& communicator, ReductionOptions options);

/// The same where groups of ranks handle bundles of microbatches (microbatches_of with a group's size G): one
/// sum over the bundles for each place in a bundle, then the sum of these G in a tree of their own. With
/// `ordered` any number of groups gives the same bits. `group` has this rank's group, and must outlive the
/// reduction. Collective over `communicator`, which it splits.
std::unique_ptr<StepReduction> make_grouped_reduction(Communicator& communicator, Communicator& group,
                                                      ReductionOptions options);

}  // namespace cosub::collective
