#include "worker/collective/fast_reduction.h"

#include <fmt/format.h>

#include <algorithm>

namespace cosub::collective {

FastReduction::FastReduction(Communicator& communicator, const ReductionOptions& options)
    : communicator_(communicator),
      order_(microbatches_of(communicator.rank(), communicator.world_size(), options.num_microbatches),
             options),
      sum_(at::zeros({options.size}, options.tensor)) {
  const auto bucket_size = std::max<std::int64_t>(1, options.bucket_bytes / sum_.element_size());
  for (std::int64_t first = 0; first < options.size; first += bucket_size) {
    buckets_.push_back(sum_.narrow(0, first, std::min(bucket_size, options.size - first)));
  }
}

void FastReduction::begin(std::int64_t step) {
  order_.begin(step);
  if (order_.owned().begin == order_.owned().end) sum_.zero_();
}

void FastReduction::add(std::int64_t microbatch, const at::Tensor& leaf) {
  const at::NoGradGuard no_grad;
  order_.add(microbatch, leaf);
  if (microbatch == order_.owned().begin) {
    sum_.copy_(leaf);
  } else {
    sum_.add_(leaf);
  }
}

const at::Tensor& FastReduction::finish() {
  order_.finish();
  communicator_.all_reduce_sum_buckets(buckets_, fmt::format("step {}", order_.step()));
  return sum_;
}

}  // namespace cosub::collective
