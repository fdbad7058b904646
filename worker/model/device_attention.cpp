#include "worker/model/device_attention.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/autocast_mode.h>
#include <c10/core/InferenceMode.h>
#include <spdlog/spdlog.h>
#include <torch/autograd.h>

#include <cmath>
#include <exception>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "worker/model/device_linear.h"
#include "worker/model/device_timing.h"
#include "worker/model/fused_attention.h"
#include "worker/model/kernel_calls.h"
#include "worker/model/linear_backward.h"

namespace cosub::model {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

struct Result {
  at::Tensor y, log_sums;  // [N, tokens, heads * width] bfloat16, [N, heads, tokens]
};

/// qkv [N, tokens, 3, heads, width] bfloat16
Result result_of(const at::Tensor& qkv) {
  const at::Tensor parts = qkv.permute({2, 0, 3, 1, 4});
  AttentionWithSums found = attention_with_sums(parts[0], parts[1], parts[2]);
  return {found.out.transpose(1, 2).contiguous().flatten(2), std::move(found.log_sums)};
}

struct Gradients {
  at::Tensor d_qkv, sums;  // as qkv; [3 * heads * width] float32
};

Gradients attention_gradients(const at::Tensor& qkv, const Result& result, const at::Tensor& d_y) {
  const at::Tensor d_out = aligned_to_16(d_y.contiguous());
  kernels::AttentionBackward a;
  a.rows = qkv.size(0);
  a.tokens = qkv.size(1);
  a.heads = qkv.size(3);
  a.width = qkv.size(4);
  const std::int64_t columns = 3 * a.heads * a.width;
  const Gradients found{at::empty_like(qkv), floats_like(qkv, {columns})};
  const at::Tensor scratch = floats_like(qkv, {a.rows, columns});
  a.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(a.width)));
  a.qkv = qkv.const_data_ptr();
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
at::Tensor noise(std::vector<std::int64_t> sizes, std::uint64_t seed, const at::Tensor& like) {
  constexpr std::int64_t kRows = 8;
  const std::int64_t rows = std::exchange(sizes[0], kRows);
  std::vector<std::int64_t> repeats(sizes.size(), 1);
  repeats[0] = (rows + kRows - 1) / kRows;
  const at::Tensor some =
      at::randn(sizes, at::detail::createCPUGenerator(seed), at::dtype(at::kFloat).device(at::kCPU));
  return some.to(like.device(), at::kBFloat16).repeat(repeats).narrow(0, 0, rows).contiguous();
}

/// theirs: as ours.d_qkv. The distance of the token and part where it is the farthest, or that of the sums of
/// queries and values; none where there is NaN.
double farthest(const Gradients& ours, const at::Tensor& theirs) {
  const auto length = [](const at::Tensor& x, at::IntArrayRef over) {
    return at::norm(x, 2, over, /*keepdim=*/false, at::kFloat);
  };
  const at::Tensor of_tokens = length(ours.d_qkv - theirs, {0, 3, 4}) / length(theirs, {0, 3, 4}),
                   sums = at::sum(theirs, at::IntArrayRef({0, 1}), /*keepdim=*/false, at::kFloat);
  double distance = of_tokens.max().item<double>();
  for (const std::int64_t part : {0, 2}) {
    const at::Tensor d = ours.sums.view_as(sums)[part] - sums[part];
    // Sums of roundings, which may be as large as what is left of the terms.
    const double scale = length(theirs.select(2, part), {0, 1, 2, 3}).item<double>();
    const double of_sums = length(d, {0, 1}).item<double>() / scale;
    if (!(of_sums <= distance)) distance = of_sums;
  }
  return distance;
}

/// The outcome of trials, of the process: by tokens, heads and width, since rows may differ from step to
/// step.
class Trials {
 public:
  bool wins(const AttentionSizes& sizes, const at::Tensor& like) {
    const std::lock_guard lock(mutex_);
    const auto [known, is_new] = won_.try_emplace({sizes.tokens, sizes.heads, sizes.width}, false);
    if (is_new) known->second = wins_trial(sizes, like);
    return known->second;
  }

 private:
  static bool wins_trial(const AttentionSizes& sizes, const at::Tensor& like) try {
    const AttentionTrial trial = try_attention(sizes, like);
    const char* const kernel = !trial.is_right()        ? "LibTorch's, since our kernel's are wrong"
                               : trial.ours_is_faster() ? "our kernel"
                                                        : "LibTorch's";
    spdlog::log(
        trial.is_right() ? spdlog::level::info : spdlog::level::warn,
        "{}: gradients by {} (with the result {:.3f} ms by ours, {:.3f} ms by LibTorch's; distance {:.2g}{})",
        name_of(sizes), kernel, trial.our_seconds * 1000, trial.their_seconds * 1000, trial.distance,
        trial.repeats ? "" : ", other numbers each time");
    return trial.is_right() && trial.ours_is_faster();
  } catch (const std::exception& error) {
    spdlog::warn("{}: gradients by LibTorch's, since the trial of our kernel failed: {}", name_of(sizes),
                 error.what());
    return false;
  }
  static std::string name_of(const AttentionSizes& sizes) {
    return fmt::format("attention of {} heads, {} tokens, width {}", sizes.heads, sizes.tokens, sizes.width);
  }

  std::mutex mutex_;
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t>, bool> won_;
};

bool wins_trial(const AttentionSizes& sizes, const at::Tensor& like) {
  static Trials trials;
  if (kernels_for(like)->on_cpu || c10::InferenceMode::is_enabled()) return true;
  return trials.wins(sizes, like);
}

}  // namespace

AttentionTrial try_attention(const AttentionSizes& sizes, const at::Tensor& like) {
  const c10::impl::ExcludeDispatchKeyGuard without_autocast(c10::autocast_dispatch_keyset);
  const at::Tensor qkv = noise({sizes.rows, sizes.tokens, 3, sizes.heads, sizes.width}, 1, like),
                   d_y = noise({sizes.rows, sizes.tokens, sizes.heads * sizes.width}, 2, like);
  const auto by_ours = [&] {
    const at::NoGradGuard no_grad;
    return attention_gradients(qkv, result_of(qkv), d_y);
  };
  const auto by_theirs = [&] {
    const at::AutoGradMode with_gradients(true);
    variable_list leaves;
    for (int part = 0; part < 3; ++part)
      leaves.push_back(qkv.select(2, part).transpose(1, 2).detach().requires_grad_());
    const at::Tensor out = fused_attention(leaves[0], leaves[1], leaves[2]).transpose(1, 2).flatten(2);
    variable_list found = torch::autograd::grad({out}, leaves, {d_y});
    for (at::Tensor& d : found) d = d.transpose(1, 2);
    return at::stack(found, 2);  // as project_by_kernels does it, in one pass
  };
  AttentionTrial trial;
  {
    const Gradients ours = by_ours();
    trial.repeats = at::equal(ours.d_qkv, by_ours().d_qkv);
    trial.distance = farthest(ours, by_theirs());
  }
  trial.our_seconds = least_seconds(qkv.device(), [&] { by_ours(); });
  trial.their_seconds = least_seconds(qkv.device(), [&] { by_theirs(); });
  return trial;
}

bool attends_by_kernels(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        std::int64_t heads) {
  if (!bias.defined() || !is_linear_for_kernels(x, weight, bias) || product_dtype(x) != at::kBFloat16)
    return false;
  const AttentionSizes sizes{x.size(0), x.size(1), heads, weight.size(0) / 3 / heads};
  return kernels_for(x)->attention_backward != nullptr && attention_backend_is_free() &&
         kernels::attention_takes(sizes.tokens, sizes.width) && wins_trial(sizes, x);
}

at::Tensor attention_by_kernels(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                std::int64_t heads) {
  Operands operands;
  at::Tensor qkv;
  Result result;
  {
    const at::NoGradGuard no_grad;
    operands = operands_of(x, weight, bias);
    qkv = product_of(operands).view({x.size(0), x.size(1), 3, heads, weight.size(0) / 3 / heads});
    result = result_of(qkv);
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
