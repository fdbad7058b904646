// reduction: fast. Own leaves are added in order; then buckets of the sum are all-reduced, all in flight
// together. The result agrees between world sizes up to rounding.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/collective/leaf_order.h"
#include "worker/collective/step_reduction.h"

namespace cosub::collective {

class FastReduction final : public StepReduction {
 public:
  FastReduction(Communicator& communicator, const ReductionOptions& options);
  void begin(std::int64_t step) override;
  void add(std::int64_t microbatch, const at::Tensor& leaf) override;
  const at::Tensor& finish() override;

 private:
  Communicator& communicator_;
  LeafOrder order_;
  at::Tensor sum_;                   // [n]
  std::vector<at::Tensor> buckets_;  // views of it
};

}  // namespace cosub::collective
