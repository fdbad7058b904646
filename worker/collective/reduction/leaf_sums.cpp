#include "worker/collective/reduction/leaf_sums.h"

#include <algorithm>

#include "worker/collective/reduction/partition.h"

namespace cosub::collective {
namespace {

bool is_node(Range range, std::int64_t num_leaves) {
  const auto subtrees = subtrees_of(range, num_leaves);
  return subtrees.size() == 1 && subtrees[0] == range;
}

// LibTorch would divide the work among its threads, which are computing the backward pass.
template <typename Number>
void add_numbers(Number* sum, const Number* a, const Number* b, std::int64_t size) {
  for (std::int64_t i = 0; i < size; ++i) sum[i] = a[i] + b[i];
}

}  // namespace

MergePlan tree_merges(Range owned, std::int64_t num_leaves) {
  MergePlan plan;
  std::vector<Range> stack;  // the stack played through with ranges instead of tensors
  for (auto leaf = owned.begin; leaf < owned.end; ++leaf) {
    stack.push_back({leaf, leaf + 1});
    std::int64_t merges = 0;
    while (stack.size() > 1 && is_node({stack[stack.size() - 2].begin, leaf + 1}, num_leaves)) {
      stack.pop_back();
      stack.back().end = leaf + 1;
      ++merges;
    }
    plan.push_back(merges);
  }
  return plan;
}

MergePlan plain_merges(Range owned) {
  MergePlan plan(static_cast<std::size_t>(owned.end - owned.begin), 1);
  if (!plan.empty()) plan[0] = 0;
  return plan;
}

void add_in_place(const at::Tensor& a, const at::Tensor& b) {
  add_into(a, a, b);
}

void add_into(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  if (a.is_cpu() && a.scalar_type() == at::kFloat) {
    add_numbers(sum.data_ptr<float>(), a.const_data_ptr<float>(), b.const_data_ptr<float>(), a.numel());
  } else if (a.is_cpu() && a.scalar_type() == at::kDouble) {
    add_numbers(sum.data_ptr<double>(), a.const_data_ptr<double>(), b.const_data_ptr<double>(), a.numel());
  } else {
    at::Tensor out = sum;
    at::add_out(out, a, b);
  }
}

LeafSums::LeafSums(MergePlan plan, std::int64_t size, at::TensorOptions tensor)
    : plan_(std::move(plan)), size_(size), tensor_(tensor) {}

at::Tensor LeafSums::take_buffer() {
  if (free_.empty()) return at::empty({size_}, tensor_);
  at::Tensor buffer = std::move(free_.back());
  free_.pop_back();
  return buffer;
}

void LeafSums::begin() {
  for (at::Tensor& sum : stack_) free_.push_back(std::move(sum));
  stack_.clear();
  sums_.clear();
  last_.reset();
  num_added_ = 0;
}

void LeafSums::add(const at::Tensor& leaf) {
  std::int64_t merges = plan_.at(num_added_++);
  if (merges == 0) {
    // A copy, not a sum with zero, which would turn -0.0 into 0.0.
    stack_.push_back(take_buffer());
    stack_.back().copy_(leaf);
  } else {
    for (stack_.back().add_(leaf); --merges > 0;) {
      at::Tensor right = std::move(stack_.back());
      stack_.pop_back();
      stack_.back().add_(right);
      free_.push_back(std::move(right));
    }
  }
  sums_ = stack_;
}

void LeafSums::add_last(const at::Tensor& leaf) {
  const std::int64_t merges = plan_.at(num_added_++);
  last_ = leaf;
  sums_ = stack_;
  if (merges == 0) {
    sums_.push_back(leaf);
  } else {
    sums_.resize(stack_.size() - static_cast<std::size_t>(merges - 1));
  }
}

void LeafSums::merge_last(Range range) {
  const std::int64_t merges = plan_.back();
  const auto part = [range](const at::Tensor& whole) {
    return whole.narrow(0, range.begin, range.end - range.begin);
  };
  at::Tensor right = part(last_);
  for (std::int64_t i = 0; i < merges; ++i) {
    const at::Tensor left = part(stack_[stack_.size() - 1 - static_cast<std::size_t>(i)]);
    add_in_place(left, right);
    right = left;
  }
}

}  // namespace cosub::collective
