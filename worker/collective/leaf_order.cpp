#include "worker/collective/leaf_order.h"

#include <fmt/format.h>

#include <stdexcept>

namespace cosub::collective {

void LeafOrder::begin(std::int64_t step) {
  step_ = step;
  next_ = owned_.begin;
}

void LeafOrder::add(std::int64_t microbatch, const at::Tensor& leaf) {
  if (next_ < 0 || microbatch != next_ || microbatch >= owned_.end) {
    throw std::logic_error(fmt::format("step {}: microbatch {} added, expected {} of this rank's [{}, {})",
                                       step_, microbatch, next_, owned_.begin, owned_.end));
  }
  if (leaf.dim() != 1 || leaf.numel() != options_.size || !leaf.is_contiguous() ||
      leaf.dtype() != options_.tensor.dtype() || leaf.device().type() != options_.tensor.device().type()) {
    throw std::logic_error(fmt::format("step {}: leaf of microbatch {} is {} of {} elements, expected [{}]",
                                       step_, microbatch, at::toString(leaf.scalar_type()), leaf.numel(),
                                       options_.size));
  }
  ++next_;
}

void LeafOrder::finish() {
  if (next_ != owned_.end) {
    throw std::logic_error(fmt::format("step {}: finished before microbatch {} of [{}, {})", step_, next_,
                                       owned_.begin, owned_.end));
  }
  next_ = -1;
}

}  // namespace cosub::collective
