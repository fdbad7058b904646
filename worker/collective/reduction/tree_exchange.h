// The sum over all ranks in one fixed binary tree over leaf indices (partition.h), whoever owns which leaves,
// so that any world size gives the same bits. Rank r gets slice r of the bucket of every rank's subtrees,
// combines them up to the root, and the slices are gathered: the traffic of a ring all-reduce. Buffers are
// kept from step to step.
#pragma once

#include "worker/collective/reduction/bucket_exchange.h"

namespace cosub::collective {

class TreeExchange final : public BucketExchange {
 public:
  /// The leaves are [0, num_leaves), divided among the ranks by microbatches_of. Buckets: disjoint ranges of
  /// [0, size).
  TreeExchange(Communicator& communicator, std::int64_t num_leaves, std::int64_t size,
               at::TensorOptions tensor, const std::vector<Range>& buckets);
  void exchange(std::size_t bucket, const std::vector<at::Tensor>& sums, const std::string& what) override;
  at::Tensor total(const std::vector<at::Tensor>& sums) override;

 private:
  struct Addition {
    std::size_t into, from;  // indices into a bucket's slices
  };
  struct Bucket {
    std::vector<Range> slices_of_ranks;
    std::vector<at::Tensor> slices;  // every rank's subtrees, own slice only; own ones: set at each exchange
    std::vector<at::Tensor> gathered;  // views of sum_, by rank
  };

  std::size_t plan_combination(Range node);
  void add_bucket(Range range, at::TensorOptions tensor);
  /// The sum of the own slice.
  const at::Tensor& combine(Bucket& bucket);
  void exchange_subtrees(Bucket& bucket, const std::vector<at::Tensor>& sums, const std::string& what);

  Communicator& communicator_;
  std::vector<std::vector<Range>> subtrees_;  // by rank
  std::vector<std::size_t> first_slice_;      // by rank: index of its first subtree in slices
  std::vector<Addition> combination_;         // in the tree's order; the last one makes the root
  std::size_t root_ = 0;
  at::Tensor sum_, none_;
  std::vector<Bucket> buckets_;
};

}  // namespace cosub::collective
