// Guards the protocol of StepReduction: this rank's microbatches come once each, ascending, between begin and
// finish. A violation is a mistake of the trainer, hence std::logic_error.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "worker/collective/reduction/partition.h"

namespace cosub::collective {

class LeafOrder {
 public:
  LeafOrder(StridedRange owned, std::int64_t size, at::TensorOptions tensor)
      : owned_(owned), size_(size), tensor_(tensor) {}
  void begin(std::int64_t step);
  void add(std::int64_t microbatch, const at::Tensor& leaf);
  void finish();  // all own leaves must have come
  bool is_last(std::int64_t microbatch) const { return microbatch + owned_.stride >= owned_.end; }
  std::int64_t step() const { return step_; }

 private:
  StridedRange owned_;
  std::int64_t size_;
  at::TensorOptions tensor_;
  std::int64_t step_ = 0;
  std::int64_t next_ = -1;  // -1: before begin
};

}  // namespace cosub::collective
