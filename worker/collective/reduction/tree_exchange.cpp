#include "worker/collective/reduction/tree_exchange.h"

#include <fmt/format.h>

#include <algorithm>

#include "worker/collective/reduction/leaf_sums.h"
#include "worker/collective/reduction/partition.h"

namespace cosub::collective {

TreeExchange::TreeExchange(Communicator& communicator, std::int64_t num_leaves, std::int64_t size,
                           at::TensorOptions tensor, const std::vector<Range>& buckets)
    : communicator_(communicator) {
  const auto world_size = communicator.world_size();
  if (world_size == 1) return;
  sum_ = at::zeros({size}, tensor);
  none_ = at::empty({0}, tensor);
  std::size_t num_slices = 0;
  for (std::int64_t r = 0; r < world_size; ++r) {
    subtrees_.push_back(subtrees_of(microbatches_of(r, world_size, num_leaves), num_leaves));
    first_slice_.push_back(num_slices);
    num_slices += subtrees_.back().size();
  }
  root_ = plan_combination({0, num_leaves});
  for (const Range& range : buckets) add_bucket(range, tensor);
}

// Returns the index of the slice that holds the node once the additions planned so far are done.
std::size_t TreeExchange::plan_combination(Range node) {
  for (std::size_t r = 0; r < subtrees_.size(); ++r) {
    const auto found = std::find(subtrees_[r].begin(), subtrees_[r].end(), node);
    if (found != subtrees_[r].end())
      return first_slice_[r] + static_cast<std::size_t>(found - subtrees_[r].begin());
  }
  const auto mid = split_of(node);
  const auto left = plan_combination({node.begin, mid});
  const auto right = plan_combination({mid, node.end});
  combination_.push_back({left, right});
  return left;
}

void TreeExchange::add_bucket(Range range, at::TensorOptions tensor) {
  Bucket& bucket = buckets_.emplace_back();
  const auto world_size = communicator_.world_size();
  for (std::int64_t r = 0; r < world_size; ++r) {
    bucket.slices_of_ranks.push_back(slice_of(range, r, world_size));
    bucket.gathered.push_back(part_of(sum_, bucket.slices_of_ranks.back()));
  }
  const auto own = bucket.slices_of_ranks[static_cast<std::size_t>(communicator_.rank())];
  for (std::int64_t r = 0; r < world_size; ++r) {
    for (std::size_t k = 0; k < subtrees_[static_cast<std::size_t>(r)].size(); ++k) {
      const bool is_own = r == communicator_.rank();  // a view of the partial sum, different in each step
      bucket.slices.push_back(is_own ? at::Tensor() : at::empty({own.end - own.begin}, tensor));
    }
  }
}

void TreeExchange::exchange(std::size_t bucket, const std::vector<at::Tensor>& sums,
                            const std::string& what) {
  if (communicator_.world_size() == 1) return;
  Bucket& exchanged = buckets_.at(bucket);
  exchange_subtrees(exchanged, sums, what);
  communicator_.all_gather(combine(exchanged), exchanged.gathered, what + ", slices of the sum");
}

// The last addition goes to where the slice is gathered: no copy.
const at::Tensor& TreeExchange::combine(Bucket& bucket) {
  if (combination_.empty()) return bucket.slices[root_];
  for (std::size_t i = 0; i + 1 < combination_.size(); ++i)
    add_in_place(bucket.slices[combination_[i].into], bucket.slices[combination_[i].from]);
  const auto [left, right] = combination_.back();
  const at::Tensor& sum = bucket.gathered[static_cast<std::size_t>(communicator_.rank())];
  add_into(sum, bucket.slices[left], bucket.slices[right]);
  return sum;
}

// One exchange for each subtree rather than one for all: the slices are sent from where they lie, without a
// copy.
void TreeExchange::exchange_subtrees(Bucket& bucket, const std::vector<at::Tensor>& sums,
                                     const std::string& what) {
  const auto own = static_cast<std::size_t>(communicator_.rank());
  for (std::size_t k = 0; k < subtrees_[own].size(); ++k) {
    bucket.slices[first_slice_[own] + k] = part_of(sums.at(k), bucket.slices_of_ranks[own]);
  }
  std::size_t num_rounds = 0;
  for (const auto& subtrees : subtrees_) num_rounds = std::max(num_rounds, subtrees.size());
  for (std::size_t k = 0; k < num_rounds; ++k) {
    std::vector<at::Tensor> send, recv;
    for (std::size_t r = 0; r < subtrees_.size(); ++r) {
      send.push_back(k < subtrees_[own].size() ? part_of(sums[k], bucket.slices_of_ranks[r]) : none_);
      recv.push_back(k < subtrees_[r].size() ? bucket.slices[first_slice_[r] + k] : none_);
    }
    communicator_.all_to_all(send, recv, fmt::format("{}, subtree {} of {}", what, k + 1, num_rounds));
  }
}

at::Tensor TreeExchange::total(const std::vector<at::Tensor>& sums) {
  return communicator_.world_size() == 1 ? sums.at(0) : sum_;
}

}  // namespace cosub::collective
