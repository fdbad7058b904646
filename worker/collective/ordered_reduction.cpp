#include "worker/collective/ordered_reduction.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "worker/collective/partition.h"

namespace cosub::collective {
namespace {

bool is_node(Range range, std::int64_t num_microbatches) {
  const auto subtrees = subtrees_of(range, num_microbatches);
  return subtrees.size() == 1 && subtrees[0] == range;
}

at::Tensor part(const at::Tensor& whole, Range range) {
  return whole.narrow(0, range.begin, range.end - range.begin);
}

}  // namespace

OrderedReduction::OrderedReduction(Communicator& communicator, const ReductionOptions& options)
    : communicator_(communicator),
      options_(options),
      order_(microbatches_of(communicator.rank(), communicator.world_size(), options.num_microbatches),
             options),
      own_slice_(microbatches_of(communicator.rank(), communicator.world_size(), options.size)) {
  if (options.num_microbatches < 1) throw std::invalid_argument("a step needs at least one microbatch");
  plan_merges();
  const auto world_size = communicator.world_size();
  if (world_size == 1) return;
  sum_ = at::zeros({options.size}, options.tensor);
  for (std::int64_t r = 0; r < world_size; ++r) {
    subtrees_.push_back(
        subtrees_of(microbatches_of(r, world_size, options.num_microbatches), options.num_microbatches));
    first_slice_.push_back(slices_.size());
    for (std::size_t k = 0; k < subtrees_[r].size(); ++k) {
      const bool own = r == communicator.rank();  // a view of the partial sum, different in each step
      slices_.push_back(own ? at::Tensor() : at::empty({own_slice_.end - own_slice_.begin}, options.tensor));
    }
    gathered_.push_back(part(sum_, microbatches_of(r, world_size, options.size)));
  }
  root_ = plan_combination({0, options.num_microbatches});
}

// Plays the stack through with ranges instead of tensors: two neighbours merge as soon as they are the halves
// of a node.
void OrderedReduction::plan_merges() {
  std::vector<Range> stack;
  for (auto leaf = order_.owned().begin; leaf < order_.owned().end; ++leaf) {
    stack.push_back({leaf, leaf + 1});
    std::int64_t merges = 0;
    while (stack.size() > 1 &&
           is_node({stack[stack.size() - 2].begin, leaf + 1}, options_.num_microbatches)) {
      stack.pop_back();
      stack.back().end = leaf + 1;
      ++merges;
    }
    num_merges_.push_back(merges);
  }
}

// Returns the index of the slice that holds the node once the additions planned so far are done.
std::size_t OrderedReduction::plan_combination(Range node) {
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

at::Tensor OrderedReduction::take_buffer() {
  if (free_.empty()) return at::empty({options_.size}, options_.tensor);
  auto buffer = std::move(free_.back());
  free_.pop_back();
  return buffer;
}

void OrderedReduction::begin(std::int64_t step) {
  order_.begin(step);
  for (auto& partial_sum : partial_sums_) free_.push_back(std::move(partial_sum));
  partial_sums_.clear();
}

void OrderedReduction::add(std::int64_t microbatch, const at::Tensor& leaf) {
  const at::NoGradGuard no_grad;
  order_.add(microbatch, leaf);
  auto merges = num_merges_[microbatch - order_.owned().begin];
  if (merges == 0) {
    // A copy, not a sum with zero, which would turn -0.0 into 0.0.
    partial_sums_.push_back(take_buffer());
    partial_sums_.back().copy_(leaf);
    return;
  }
  for (partial_sums_.back().add_(leaf); --merges > 0;) {
    auto right = std::move(partial_sums_.back());
    partial_sums_.pop_back();
    partial_sums_.back().add_(right);
    free_.push_back(std::move(right));
  }
}

const at::Tensor& OrderedReduction::finish() {
  const at::NoGradGuard no_grad;
  order_.finish();
  if (communicator_.world_size() == 1) return partial_sums_.front();
  exchange_subtrees();
  for (const auto& [into, from] : combination_) slices_[into].add_(slices_[from]);
  communicator_.all_gather(slices_[root_], gathered_,
                           fmt::format("step {}, slices of the sum", order_.step()));
  return sum_;
}

// One exchange for each subtree rather than one for all: the slices are sent from where they lie, without a
// copy.
void OrderedReduction::exchange_subtrees() {
  const auto world_size = static_cast<std::size_t>(communicator_.world_size());
  const auto own = static_cast<std::size_t>(communicator_.rank());
  for (std::size_t k = 0; k < subtrees_[own].size(); ++k) {
    slices_[first_slice_[own] + k] = part(partial_sums_[k], own_slice_);
  }
  std::size_t num_rounds = 0;
  for (const auto& subtrees : subtrees_) num_rounds = std::max(num_rounds, subtrees.size());
  const auto none = at::empty({0}, options_.tensor);
  for (std::size_t k = 0; k < num_rounds; ++k) {
    std::vector<at::Tensor> send, recv;
    for (std::size_t r = 0; r < world_size; ++r) {
      const auto slice =
          microbatches_of(static_cast<std::int64_t>(r), communicator_.world_size(), options_.size);
      send.push_back(k < subtrees_[own].size() ? part(partial_sums_[k], slice) : none);
      recv.push_back(k < subtrees_[r].size() ? slices_[first_slice_[r] + k] : none);
    }
    communicator_.all_to_all(send, recv,
                             fmt::format("step {}, subtree {} of {}", order_.step(), k + 1, num_rounds));
  }
}

}  // namespace cosub::collective
