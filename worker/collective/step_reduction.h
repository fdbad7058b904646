// Adds the microbatches' flat vectors (gradients | batch statistics | logged sums) of a step over all ranks.
//   ordered: one fixed binary tree over microbatch indices: node [lo, hi) = node [lo, mid) + node [mid, hi)
//   with
//            mid = lo + largest power of two below hi - lo. Each rank sums the maximal subtrees inside its
//            contiguous range and the ranks exchange those, so the result has the same bits for any number of
//            ranks.
//   fast:    each rank adds its own in order, then buckets are all-reduced.
// Usage per step, on every rank: begin(step); for each own microbatch ascending: add(m, leaf); finish() ->
// sum.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>

#include "common/config/pipeline.h"
#include "worker/collective/communicator.h"

namespace cosub::collective {

class StepReduction {
 public:
  virtual ~StepReduction() = default;
  virtual void begin(std::int64_t step) = 0;
  /// leaf: [n], contiguous, of options.tensor's dtype and device; copied or added before this returns.
  /// Microbatch is the index within the step; std::logic_error when it is not the next one of this rank.
  virtual void add(std::int64_t microbatch, const at::Tensor& leaf) = 0;
  /// Collective. The sum over all microbatches, [n]; valid until the next begin.
  virtual const at::Tensor& finish() = 0;
};

struct ReductionOptions {
  config::Reduction kind = config::Reduction::kOrdered;
  std::int64_t num_microbatches = 1;
  std::int64_t size = 0;                         // n
  at::TensorOptions tensor = at::kFloat;         // dtype and device of leaves and sum
  std::int64_t bucket_bytes = 25 * 1024 * 1024;  // of one all-reduce (fast)
};
std::unique_ptr<StepReduction> make_step_reduction(Communicator& communicator,
                                                   const ReductionOptions& options);

/// The same where groups of ranks handle bundles of microbatches (microbatches_of with a group's size G): one
/// sum over the bundles for each place in a bundle, then the sum of these G in a tree of their own. With
/// `ordered` any number of groups gives the same bits. `group` has this rank's group, and must outlive the
/// reduction. Collective over `communicator`, which it splits.
std::unique_ptr<StepReduction> make_grouped_reduction(Communicator& communicator, Communicator& group,
                                                      const ReductionOptions& options);

}  // namespace cosub::collective
