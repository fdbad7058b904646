#include "worker/collective/reduction/all_reduce_exchange.h"

namespace cosub::collective {

AllReduceExchange::AllReduceExchange(Communicator& communicator, std::int64_t size, at::TensorOptions tensor,
                                     std::vector<Range> buckets, bool has_leaves)
    : communicator_(communicator), buckets_(std::move(buckets)) {
  if (!has_leaves) zeros_ = at::zeros({size}, tensor);
}

void AllReduceExchange::exchange(std::size_t bucket, const std::vector<at::Tensor>& sums,
                                 const std::string& what) {
  at::Tensor part = part_of(total(sums), buckets_.at(bucket));
  if (zeros_.defined()) part.zero_();
  communicator_.all_reduce_sum(part, what);
}

at::Tensor AllReduceExchange::total(const std::vector<at::Tensor>& sums) {
  return zeros_.defined() ? zeros_ : sums.at(0);
}

}  // namespace cosub::collective
