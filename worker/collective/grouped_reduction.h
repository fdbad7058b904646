// The sum over microbatches where groups of G ranks handle bundles of G neighbouring ones, one each. Place c
// of all bundles is summed over the ranks that own it (a "column": one rank of each group), over bundle
// indices in the tree or quick way of options.kind; then each group adds its G columns likewise. Both orders
// are fixed by the number of bundles and G alone.
#pragma once

#include <cstdint>
#include <memory>

#include "worker/collective/step_reduction.h"

namespace cosub::collective {

class GroupedReduction final : public StepReduction {
 public:
  GroupedReduction(Communicator& communicator, Communicator& group, const ReductionOptions& options);
  void begin(std::int64_t step) override;
  void add(std::int64_t microbatch, const at::Tensor& leaf) override;
  const at::Tensor& finish() override;

 private:
  std::int64_t place_, group_size_;
  std::int64_t step_ = 0;
  std::unique_ptr<Communicator> column_;
  std::unique_ptr<StepReduction> over_bundles_, over_places_;
};

}  // namespace cosub::collective
