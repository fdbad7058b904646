#include "worker/model/device_attention.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/autocast_mode.h>
#include <c10/core/InferenceMode.h>
#include <spdlog/spdlog.h>
#include <torch/autograd.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <initializer_list>
#include <map>
#include <mutex>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "worker/model/device_timing.h"
#include "worker/model/fused_attention.h"
#include "worker/model/kernel_calls.h"
#include "worker/model/linear_backward.h"
#include "worker/model/linear_node.h"

namespace cosub::model {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

struct Result {
  at::Tensor y, log_sums;  // [N, tokens, heads * width] bfloat16, [N, heads, tokens]
};

/// Of qkv [N, tokens, 3, heads, width] bfloat16, for the kernels' arguments.
template <typename Arguments>
Arguments arguments_of(const at::Tensor& qkv) {
  Arguments a;
  a.rows = qkv.size(0);
  a.tokens = qkv.size(1);
  a.heads = qkv.size(3);
  a.width = qkv.size(4);
  a.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(a.width)));
  a.qkv = qkv.const_data_ptr();
  return a;
}

/// What a kernel leaves out shall show in a trial, not be right by what lay there before.
enum class Before { kAnything, kNan };

void prepare(Before before, std::initializer_list<at::Tensor> outputs) {
  if (before == Before::kAnything) return;
  for (const at::Tensor& output : outputs) output.fill_(NAN);
}

Result our_result_of(const at::Tensor& qkv, Before before) {
  auto a = arguments_of<kernels::AttentionForward>(qkv);
  const Result found{at::empty({a.rows, a.tokens, a.heads * a.width}, qkv.options()),
                     floats_like(qkv, {a.rows, a.heads, a.tokens})};
  prepare(before, {found.y, found.log_sums});
  a.out = found.y.mutable_data_ptr();
  a.log_sums = float_address(found.log_sums);
  kernels_for(qkv)->attention(a, StreamOf(qkv));
  return found;
}

Result result_of(const at::Tensor& qkv, AttentionBy by, Before before = Before::kAnything) {
  if (by == AttentionBy::kOurs) return our_result_of(qkv, before);
  const at::Tensor parts = qkv.permute({2, 0, 3, 1, 4});
  AttentionWithSums found = attention_with_sums(parts[0], parts[1], parts[2]);
  return {found.out.transpose(1, 2).contiguous().flatten(2), std::move(found.log_sums)};
}

struct Gradients {
  at::Tensor d_qkv, sums;  // as qkv; [3 * heads * width] float32
};

Gradients attention_gradients(const at::Tensor& qkv, const Result& result, const at::Tensor& d_y,
                              Before before = Before::kAnything) {
  const at::Tensor d_out = aligned_to_16(d_y.contiguous());
  auto a = arguments_of<kernels::AttentionBackward>(qkv);
  const std::int64_t columns = 3 * a.heads * a.width;
  const Gradients found{at::empty_like(qkv), floats_like(qkv, {columns})};
  const at::Tensor scratch = floats_like(qkv, {a.rows, columns});
  prepare(before, {found.d_qkv, found.sums});
  a.out = result.y.const_data_ptr();
  a.d_out = d_out.const_data_ptr();
  a.log_sums = const_float_address(result.log_sums);
  a.d_qkv = found.d_qkv.mutable_data_ptr();
  a.sums = float_address(found.sums);
  a.scratch = float_address(scratch);
  kernels_for(qkv)->attention_backward(a, StreamOf(qkv));
  return found;
}

struct AttentionNode : public LinearBackward {
  variable_list apply(variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    if (!gradients.at(0).defined()) return variable_list(3);
    const at::Tensor of = qkv.unpack();
    const Gradients found =
        attention_gradients(of, {out.unpack(shared_from_this()), log_sums}, std::exchange(gradients[0], {}));
    return gradients_of(found.d_qkv.view({-1, found.sums.size(0)}), found.sums);
  }
  void release_variables() override {
    LinearBackward::release_variables();
    qkv.reset_data();
    out.reset_data();
    log_sums.reset();
  }

  SavedVariable qkv, out;
  at::Tensor log_sums;
};

/// bfloat16 on the device of `like`. A few rows again and again, so that the host makes little of it, and by
/// a generator of its own: nobody else's numbers change.
constexpr std::int64_t kNoiseRows = 8;
at::Tensor noise(std::vector<std::int64_t> sizes, std::uint64_t seed, const at::Tensor& like) {
  const std::int64_t rows = std::exchange(sizes[0], kNoiseRows);
  std::vector<std::int64_t> repeats(sizes.size(), 1);
  repeats[0] = (rows + kNoiseRows - 1) / kNoiseRows;
  const at::Tensor some =
      at::randn(sizes, at::detail::createCPUGenerator(seed), at::dtype(at::kFloat).device(at::kCPU));
  return some.to(like.device(), at::kBFloat16).repeat(repeats).narrow(0, 0, rows).contiguous();
}

bool our_result_takes(const kernels::AttentionSizes& sizes, const at::Tensor& like) {
  return kernels_for(like)->attention != nullptr && kernels::attention_takes(sizes.tokens, sizes.width);
}

struct Found {
  at::Tensor y, d_qkv, sums;  // as of Result and Gradients
};

Found by_ours(AttentionBy by, const at::Tensor& qkv, const at::Tensor& d_y,
              Before before = Before::kAnything) {
  const at::NoGradGuard no_grad;
  const Result result = result_of(qkv, by, before);
  const Gradients gradients = attention_gradients(qkv, result, d_y, before);
  return {result.y, gradients.d_qkv, gradients.sums};
}

/// As project_by_kernels and fused_attention make them; without sums.
Found by_libtorch(const at::Tensor& qkv, const at::Tensor& d_y) {
  const at::AutoGradMode with_gradients(true);
  variable_list leaves;
  for (int part = 0; part < 3; ++part)
    leaves.push_back(qkv.select(2, part).transpose(1, 2).detach().requires_grad_());
  const at::Tensor y = fused_attention(leaves[0], leaves[1], leaves[2]).transpose(1, 2).flatten(2);
  variable_list d = torch::autograd::grad({y}, leaves, {d_y});
  for (at::Tensor& part : d) part = part.transpose(1, 2);
  return {y.detach(), at::stack(d, 2), {}};  // in one pass, as their gradients are joined in a step
}

/// Of the row, token and part where it is the greatest, or of the sums of queries' and values' gradients; NaN
/// where there is any.
double distance_between(const Found& ours, const Found& theirs) {
  const auto length = [](const at::Tensor& x, at::IntArrayRef over) {
    return at::norm(x, 2, over, /*keepdim=*/false, at::kFloat);
  };
  const auto of_tokens = [&](const at::Tensor& x, const at::Tensor& other, at::IntArrayRef over) {
    return (length(x - other, over) / length(other, over)).max().item<double>();
  };
  std::vector<double> distances = {of_tokens(ours.y, theirs.y, {2}),
                                   of_tokens(ours.d_qkv, theirs.d_qkv, {3, 4})};
  const at::Tensor sums = at::sum(theirs.d_qkv, at::IntArrayRef({0, 1}), /*keepdim=*/false, at::kFloat);
  for (const std::int64_t part : {0, 2}) {
    // Relative to what is summed, of which the sums may be a small rest. Like rows add up, with their
    // roundings.
    const at::Tensor rows = theirs.d_qkv.select(2, part);
    const double alike = std::sqrt(std::max(1.0, static_cast<double>(rows.size(0)) / kNoiseRows));
    const at::Tensor summed = alike * length(rows, {0, 1, 2, 3});
    distances.push_back((length(ours.sums.view_as(sums)[part] - sums[part], {0, 1}) / summed).item<double>());
  }
  for (const double distance : distances)
    if (std::isnan(distance)) return distance;
  return *std::max_element(distances.begin(), distances.end());
}

const char* name_of(AttentionBy by) {
  switch (by) {
    case AttentionBy::kLibTorch:
      return "LibTorch's kernels";
    case AttentionBy::kOurGradients:
      return "our kernel for gradients";
    case AttentionBy::kOurs:
      return "our kernels";
  }
  throw std::logic_error("unknown way to compute attention");
}

/// What was found, of the process: by tokens, heads and width, since rows may differ from step to step.
class BestAttention {
 public:
  /// may_try: otherwise what is known, or kOurGradients.
  AttentionBy of(const kernels::AttentionSizes& sizes, const at::Tensor& like, bool may_try) {
    const std::lock_guard lock(mutex_);
    const auto key = std::tuple(sizes.tokens, sizes.heads, sizes.width);
    if (const auto known = best_.find(key); known != best_.end()) return known->second;
    if (!may_try) return AttentionBy::kOurGradients;
    return best_[key] = find(sizes, like);
  }

 private:
  static AttentionBy find(const kernels::AttentionSizes& sizes, const at::Tensor& like) {
    const std::string what =
        fmt::format("attention of {} heads, {} tokens, width {}", sizes.heads, sizes.tokens, sizes.width);
    try {
      const std::vector<AttentionTrial> trials = try_attention(sizes, like);
      std::string times;
      for (const AttentionTrial& trial : trials) {
        times +=
            fmt::format("{}{} {:.3f} ms", times.empty() ? "" : ", ", name_of(trial.by), trial.seconds * 1000);
        if (!trial.is_right())
          spdlog::warn("{}: {} are not used: others than LibTorch's by {:.2g}{}", what, name_of(trial.by),
                       trial.distance,
                       trial.repeats || std::isnan(trial.distance) ? "" : ", and others each time");
      }
      const AttentionBy best = best_of(trials);
      spdlog::info("{}, with gradients: {} ({})", what, name_of(best), times);
      return best;
    } catch (const std::exception& error) {
      spdlog::warn("{}: LibTorch's kernels, since trying ours failed: {}", what, error.what());
      return AttentionBy::kLibTorch;
    }
  }

  std::mutex mutex_;
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t>, AttentionBy> best_;
};

}  // namespace

std::vector<AttentionTrial> try_attention(const kernels::AttentionSizes& sizes, const at::Tensor& like) {
  const c10::impl::ExcludeDispatchKeyGuard without_autocast(c10::autocast_dispatch_keyset);
  const at::Tensor qkv = noise({sizes.rows, sizes.tokens, 3, sizes.heads, sizes.width}, 1, like),
                   d_y = noise({sizes.rows, sizes.tokens, sizes.heads * sizes.width}, 2, like);
  std::vector<AttentionTrial> trials(1);
  trials[0].repeats = true;
  trials[0].seconds = least_seconds(qkv.device(), [&] { by_libtorch(qkv, d_y); });
  for (const AttentionBy by : {AttentionBy::kOurGradients, AttentionBy::kOurs}) {
    if (by == AttentionBy::kOurs && !our_result_takes(sizes, like)) continue;
    AttentionTrial trial;
    trial.by = by;
    {
      const Found found = by_ours(by, qkv, d_y, Before::kNan), again = by_ours(by, qkv, d_y, Before::kNan);
      trial.repeats = at::equal(found.y, again.y) && at::equal(found.d_qkv, again.d_qkv) &&
                      at::equal(found.sums, again.sums);
      trial.distance = distance_between(found, by_libtorch(qkv, d_y));
    }
    trial.seconds = least_seconds(qkv.device(), [&] { by_ours(by, qkv, d_y); });
    trials.push_back(trial);
  }
  return trials;
}

AttentionBy best_of(const std::vector<AttentionTrial>& trials) {
  constexpr double kClearly = 0.95;
  const AttentionTrial* best = &trials.front();
  for (const AttentionTrial& trial : trials)
    if (trial.is_right() && trial.seconds < kClearly * best->seconds) best = &trial;
  return best->by;
}

AttentionBy attention_by(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         std::int64_t heads) {
  if (!bias.defined() || !is_linear_for_kernels(x, weight, bias) || product_dtype(x) != at::kBFloat16)
    return AttentionBy::kLibTorch;
  const kernels::AttentionSizes sizes{x.size(0), x.size(1), heads, weight.size(0) / 3 / heads};
  const kernels::Kernels* const kernels = kernels_for(x);
  if (kernels->attention_backward == nullptr || !attention_backend_is_free() ||
      !kernels::attention_backward_takes(sizes.tokens, sizes.width))
    return AttentionBy::kLibTorch;
  if (kernels->on_cpu) return our_result_takes(sizes, x) ? AttentionBy::kOurs : AttentionBy::kOurGradients;
  static BestAttention best;
  return best.of(sizes, x, !c10::InferenceMode::is_enabled());
}

at::Tensor attention_by_kernels(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                std::int64_t heads, AttentionBy by) {
  Operands operands;
  at::Tensor qkv;
  Result result;
  {
    const at::NoGradGuard no_grad;
    operands = operands_of(x, weight, bias);
    qkv = product_of(operands).view({x.size(0), x.size(1), 3, heads, weight.size(0) / 3 / heads});
    result = result_of(qkv, by);
  }
  if (!differentiates(x, weight, bias)) return result.y;
  const auto node = node_for<AttentionNode>(x, weight, bias, operands);
  torch::autograd::set_history(result.y, node);
  node->qkv = SavedVariable(qkv, /*is_output=*/false);
  node->out = SavedVariable(result.y, /*is_output=*/true);
  node->log_sums = std::move(result.log_sums);
  return result.y;
}

}  // namespace cosub::model
