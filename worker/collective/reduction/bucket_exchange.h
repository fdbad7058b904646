// How ranks turn their own partial sums into the sum over all ranks, one bucket (a range of the vector) at a
// time. Used from one thread at a time.
#pragma once

#include <ATen/ATen.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "worker/collective/communicator.h"
#include "worker/collective/reduction/partition.h"

namespace cosub::collective {

class BucketExchange {
 public:
  virtual ~BucketExchange() = default;
  /// Collective. `sums`: this rank's partial sums, [n] each; those of the bucket's range may be overwritten.
  virtual void exchange(std::size_t bucket, const std::vector<at::Tensor>& sums, const std::string& what) = 0;
  /// The vector [n] that holds the sum over all ranks wherever exchange has been; its place may differ from
  /// step to step.
  virtual at::Tensor total(const std::vector<at::Tensor>& sums) = 0;

  /// After the exchange of all buckets; applies: [] bool, on the sums' device: false for a step that is left
  /// out, which must leave nothing to those after it.
  virtual void settle(const at::Tensor& /*applies*/) {}
  /// What this rank keeps from step to step, [n] each, live: part of a checkpoint.
  virtual std::vector<at::Tensor> kept() const { return {}; }
};

inline at::Tensor part_of(const at::Tensor& whole, Range range) {
  return whole.narrow(0, range.begin, range.end - range.begin);
}

/// The part of `bucket` that `rank` sums for all.
inline Range slice_of(Range bucket, std::int64_t rank, std::int64_t world_size) {
  const Range within = microbatches_of(rank, world_size, bucket.end - bucket.begin);
  return {bucket.begin + within.begin, bucket.begin + within.end};
}

}  // namespace cosub::collective
