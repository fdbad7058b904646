// reduction: ordered. The sum is evaluated in one fixed binary tree over microbatch indices (partition.h),
// whoever owns which leaves, so that any world size gives the same bits.
//   add:    a stack of partial sums, merged like the carries of a binary counter: O(log) vectors are held.
//   finish: what is left are the maximal subtrees inside this rank's range. Rank r gets slice r of every
//   rank's
//           subtrees, combines them up to the root, and the slices are gathered.
// Buffers are kept from step to step.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/collective/leaf_order.h"
#include "worker/collective/step_reduction.h"

namespace cosub::collective {

class OrderedReduction final : public StepReduction {
 public:
  OrderedReduction(Communicator& communicator, const ReductionOptions& options);
  void begin(std::int64_t step) override;
  void add(std::int64_t microbatch, const at::Tensor& leaf) override;
  const at::Tensor& finish() override;

 private:
  struct Addition {
    std::size_t into, from;  // indices into slices_
  };

  void plan_merges();
  std::size_t plan_combination(Range node);
  void exchange_subtrees();
  at::Tensor take_buffer();

  Communicator& communicator_;
  ReductionOptions options_;
  LeafOrder order_;
  Range own_slice_;  // of the n elements

  // The plan, made once.
  std::vector<std::int64_t> num_merges_;      // by own microbatch: partial sums to merge after it
  std::vector<std::vector<Range>> subtrees_;  // by rank
  std::vector<std::size_t> first_slice_;      // by rank: index of its first subtree in slices_
  std::vector<Addition> combination_;         // in the tree's order; the last one makes the root
  std::size_t root_ = 0;

  // Values.
  std::vector<at::Tensor> partial_sums_;  // the stack; after the last leaf: this rank's subtrees
  std::vector<at::Tensor> free_;
  std::vector<at::Tensor> slices_;    // every rank's subtrees, own slice only
  at::Tensor sum_;                    // [n]
  std::vector<at::Tensor> gathered_;  // views of it, by rank
};

}  // namespace cosub::collective
