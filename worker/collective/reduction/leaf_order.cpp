#include "worker/collective/reduction/leaf_order.h"

#include <fmt/format.h>

#include <stdexcept>

namespace cosub::collective {

void LeafOrder::begin(std::int64_t step) {
  step_ = step;
  next_ = owned_.begin;
}

void LeafOrder::add(std::int64_t microbatch, const at::Tensor& leaf) {
  if (next_ < 0 || microbatch != next_ || microbatch >= owned_.end) {
    throw std::logic_error(
        fmt::format("step {}: microbatch {} added, expected {} of this rank's, {} to {} by {}", step_,
                    microbatch, next_, owned_.begin, owned_.end, owned_.stride));
  }
  if (leaf.dim() != 1 || leaf.numel() != size_ || !leaf.is_contiguous() || leaf.dtype() != tensor_.dtype() ||
      leaf.device().type() != tensor_.device().type()) {
    throw std::logic_error(fmt::format("step {}: leaf of microbatch {} is {} of {} elements, expected [{}]",
                                       step_, microbatch, at::toString(leaf.scalar_type()), leaf.numel(),
                                       size_));
  }
  next_ += owned_.stride;
}

void LeafOrder::finish() {
  if (next_ < owned_.end) {
    throw std::logic_error(
        fmt::format("step {}: finished before microbatch {} of {}", step_, next_, owned_.end));
  }
  next_ = -1;
}

}  // namespace cosub::collective
