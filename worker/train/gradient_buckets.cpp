#include "worker/train/gradient_buckets.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <limits>
#include <map>

namespace cosub::train {
namespace {

using collective::Range;

struct Hook final : torch::autograd::PostAccumulateGradHook {
  explicit Hook(std::function<void()> call_in) : call(std::move(call_in)) {}
  void operator()(const at::Tensor&) override { call(); }
  std::function<void()> call;
};

bool overlap(const Range& range, const Slot& slot) {
  return slot.offset < range.end && range.begin < slot.offset + slot.numel;
}

}  // namespace

std::vector<Range> gradient_buckets(const FlatState& state, const std::vector<std::string>& order,
                                    std::int64_t bucket_floats) {
  std::vector<Range> buckets;
  const auto cut = [&](Range range) {
    for (std::int64_t begin = range.begin; begin < range.end; begin += bucket_floats)
      buckets.push_back({begin, std::min(begin + bucket_floats, range.end)});
  };
  cut({0, state.num_decayed()});
  cut({state.num_decayed(), state.num_parameters()});

  std::map<std::string, std::size_t> position;
  for (std::size_t i = 0; i < order.size(); ++i) position[order[i]] = i;
  const auto first_position = [&](const Range& range) {
    std::size_t first = std::numeric_limits<std::size_t>::max();
    for (const Slot& slot : state.parameters())
      if (overlap(range, slot)) first = std::min(first, position.at(slot.name));
    return first;
  };
  std::vector<std::pair<std::size_t, Range>> keyed;
  for (const Range& range : buckets) keyed.emplace_back(first_position(range), range);
  std::stable_sort(keyed.begin(), keyed.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (std::size_t i = 0; i < keyed.size(); ++i) buckets[i] = keyed[i].second;
  return buckets;
}

GradientReadiness::GradientReadiness(FlatState& state, const std::vector<Range>& buckets,
                                     std::function<void(std::size_t)> on_ready)
    : state_(state), on_ready_(std::move(on_ready)), num_parameters_(buckets.size(), 0) {
  for (const Slot& slot : state.parameters()) {
    auto& mine = buckets_of_.emplace_back();
    for (std::size_t b = 0; b < buckets.size(); ++b) {
      if (!overlap(buckets[b], slot)) continue;
      mine.push_back(b);
      ++num_parameters_[b];
    }
  }
  for (std::size_t i = 0; i < state.parameters().size(); ++i) {
    torch::autograd::impl::set_post_acc_grad_hooks(state.parameters()[i].tensor,
                                                   std::make_unique<Hook>([this, i] { gradient_added(i); }));
  }
}

GradientReadiness::~GradientReadiness() {
  for (const Slot& slot : state_.parameters()) {
    torch::autograd::impl::set_post_acc_grad_hooks(slot.tensor, nullptr);
  }
}

void GradientReadiness::arm() {
  const std::lock_guard lock(mutex_);
  armed_ = true;
  awaited_ = num_parameters_;
  next_ = 0;
  tell_ready();
}

void GradientReadiness::finish() {
  const std::lock_guard lock(mutex_);
  std::fill(awaited_.begin(), awaited_.end(), 0);
  tell_ready();
  armed_ = false;
}

void GradientReadiness::gradient_added(std::size_t parameter) {
  const std::lock_guard lock(mutex_);
  if (!armed_) return;
  for (const std::size_t bucket : buckets_of_[parameter]) --awaited_[bucket];
  tell_ready();
}

void GradientReadiness::tell_ready() {
  while (next_ < awaited_.size() && awaited_[next_] <= 0) on_ready_(next_++);
}

}  // namespace cosub::train
