// Guards the protocol of StepReduction: this rank's microbatches come once each, ascending, between begin and
// finish. A violation is a mistake of the trainer, hence std::logic_error.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "worker/collective/communicator.h"
#include "worker/collective/step_reduction.h"

namespace cosub::collective {

class LeafOrder {
 public:
  LeafOrder(Range owned, const ReductionOptions& options) : owned_(owned), options_(options) {}
  void begin(std::int64_t step);
  void add(std::int64_t microbatch, const at::Tensor& leaf);
  void finish();  // all own leaves must have come
  Range owned() const { return owned_; }
  std::int64_t step() const { return step_; }

 private:
  Range owned_;
  ReductionOptions options_;
  std::int64_t step_ = 0;
  std::int64_t next_ = -1;  // -1: before begin
};

}  // namespace cosub::collective
