// `exchange.compress: bf16`: half the bytes. Each rank rounds its partial sum to bfloat16 and sends slice r
// to rank r, which adds the slices in float32 in the order of the ranks and sends the sum around, rounded
// once more. With error feedback (Seide et al. 2014, "1-bit stochastic gradient descent"; off by default)
// what a rank's first rounding lost is added to its next step's sum; a step that is left out leaves what was
// lost before it. Every rank gets the same bits. Buckets from `first_exact` on are all-reduced as they are.
#pragma once

#include "worker/collective/reduction/bucket_exchange.h"

namespace cosub::collective {

class CompressedExchange final : public BucketExchange {
 public:
  struct Options {
    std::int64_t size = 0;
    at::TensorOptions tensor = at::kFloat;
    std::vector<Range> buckets;
    std::int64_t first_exact = 0;  // element from which on nothing is rounded
    bool error_feedback = false;
    bool has_leaves = true;
  };
  CompressedExchange(Communicator& communicator, Options options);
  void exchange(std::size_t bucket, const std::vector<at::Tensor>& sums, const std::string& what) override;
  at::Tensor total(const std::vector<at::Tensor>& sums) override;
  void settle(const at::Tensor& applies) override;
  std::vector<at::Tensor> kept() const override;

 private:
  at::Tensor rounded(const at::Tensor& part, Range range);

  Communicator& communicator_;
  Options options_;
  at::Tensor zeros_;  // of a rank that has no leaves
  at::Tensor lost_,
      losing_;  // [size] each, with error feedback: in the steps before, and after the one under way
};

}  // namespace cosub::collective
