// reduction: fast. Each bucket of the rank's one partial sum is all-reduced in place. The result agrees
// between world sizes up to rounding.
#pragma once

#include "worker/collective/reduction/bucket_exchange.h"

namespace cosub::collective {

class AllReduceExchange final : public BucketExchange {
 public:
  AllReduceExchange(Communicator& communicator, std::int64_t size, at::TensorOptions tensor,
                    std::vector<Range> buckets, bool has_leaves);
  void exchange(std::size_t bucket, const std::vector<at::Tensor>& sums, const std::string& what) override;
  at::Tensor total(const std::vector<at::Tensor>& sums) override;

 private:
  Communicator& communicator_;
  std::vector<Range> buckets_;
  at::Tensor zeros_;  // of a rank that has no leaves: its part, and then the sum
};

}  // namespace cosub::collective
