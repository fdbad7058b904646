// What one rank adds by itself: the leaves of its own microbatches, in a fixed order. A stack of partial
// sums, merged like the carries of a binary counter, so that O(log) vectors are held; buffers are kept from
// step to step. The last leaf may be added range by range, while its other ranges are still being computed.
// Elementwise, so the bits do not depend on the ranges. Not thread-safe, but for merge_last of disjoint
// ranges.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "worker/collective/reduction/partition.h"

namespace cosub::collective {

/// By own leaf: how many of the newest partial sums it is merged with.
using MergePlan = std::vector<std::int64_t>;
/// Two neighbours merge as soon as they are the halves of a node of the tree over [0, num_leaves): what is
/// left are the maximal subtrees inside `owned`.
MergePlan tree_merges(Range owned, std::int64_t num_leaves);
/// One after the other.
MergePlan plain_merges(Range owned);

/// a += b, elementwise and alike in shape. On CPU in the calling thread alone.
void add_in_place(const at::Tensor& a, const at::Tensor& b);
/// sum = a + b, likewise; `sum` may be one of them.
void add_into(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b);

class LeafSums {
 public:
  LeafSums(MergePlan plan, std::int64_t size, at::TensorOptions tensor);

  void begin();
  void add(const at::Tensor& leaf);  // [size]; may change afterwards
  /// After all others. The leaf must not change until begin, but for what merge_last has not been called for.
  void add_last(const at::Tensor& leaf);
  void merge_last(Range range);
  /// The partial sums that remain, ascending by leaf, [size] each; after add_last: final where merge_last has
  /// been.
  const std::vector<at::Tensor>& sums() const { return sums_; }

 private:
  at::Tensor take_buffer();

  MergePlan plan_;
  std::int64_t size_;
  at::TensorOptions tensor_;
  std::size_t num_added_ = 0;
  std::vector<at::Tensor> stack_, free_, sums_;
  at::Tensor last_;
};

}  // namespace cosub::collective
