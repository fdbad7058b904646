#include "worker/model/attention_tuner.h"

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <spdlog/spdlog.h>
#include <torch/autograd.h>

#include <algorithm>
#include <exception>

#include "worker/model/device_timing.h"

namespace cosub::model {
namespace {

using at::SDPBackend;

const char* name_of(SDPBackend backend) {
  switch (backend) {
    case SDPBackend::flash_attention:
      return "flash attention";
    case SDPBackend::efficient_attention:
      return "memory-efficient attention";
    case SDPBackend::cudnn_attention:
      return "cuDNN's attention";
    default:
      return "attention by products";
  }
}

std::optional<at::Tensor> mask_of(const AttentionCall& call) {
  return call.bias.defined() ? std::optional(call.bias) : std::nullopt;
}

/// The call on leaves that share its memory, so that its gradients go nowhere else.
class Trial {
 public:
  explicit Trial(const AttentionCall& call) : differentiates_(!c10::InferenceMode::is_enabled()) {
    for (const at::Tensor* input : {&call.q, &call.k, &call.v, &call.bias}) {
      if (!input->defined()) continue;
      leaves_.push_back(input->detach());
      leaves_.back().requires_grad_(differentiates_);
    }
  }
  AttentionCall call() const {
    return {leaves_[0], leaves_[1], leaves_[2], leaves_.size() > 3 ? leaves_[3] : none_};
  }
  void run() const {
    const at::AutoGradMode grad(differentiates_);
    const at::Tensor out = attend(call());
    if (!differentiates_) return;
    torch::autograd::grad({out}, leaves_, {out.detach()});
  }
  bool can(SDPBackend backend) const {
    const at::AutoGradMode grad(differentiates_);
    const OnlyBackends only({backend, SDPBackend::math});  // the latter can always
    const AttentionCall in = call();
    return at::_fused_sdp_choice(in.q, in.k, in.v, mask_of(in)) == static_cast<std::int64_t>(backend);
  }

 private:
  const bool differentiates_;
  std::vector<at::Tensor> leaves_;
  const at::Tensor none_;
};

}  // namespace

at::Tensor attend(const AttentionCall& call) {
  return at::scaled_dot_product_attention(call.q, call.k, call.v, mask_of(call));
}

AttentionShape::AttentionShape(const AttentionCall& call)
    : heads(call.q.size(1)),
      queries(call.q.size(-2)),
      keys(call.k.size(-2)),
      width(call.q.size(-1)),
      dtype(call.q.scalar_type()),
      has_bias(call.bias.defined()),
      differentiates(!c10::InferenceMode::is_enabled()) {}

OnlyBackends::OnlyBackends(std::vector<SDPBackend> backends) {
  at::Context& context = at::globalContext();
  flash_ = context.userEnabledFlashSDP();
  efficient_ = context.userEnabledMemEfficientSDP();
  cudnn_ = context.userEnabledCuDNNSDP();
  math_ = context.userEnabledMathSDP();
  const auto among = [&](SDPBackend backend) {
    return std::find(backends.begin(), backends.end(), backend) != backends.end();
  };
  allow(among(SDPBackend::flash_attention), among(SDPBackend::efficient_attention),
        among(SDPBackend::cudnn_attention), among(SDPBackend::math));

  // Each once: LibTorch writes an order that is too long beyond the end of its own.
  const auto before = context.sDPPriorityOrder();
  order_.assign(before.begin(), before.end());
  backends.insert(backends.end(), order_.begin(), order_.end());
  std::vector<SDPBackend> order;
  std::copy_if(backends.begin(), backends.end(), std::back_inserter(order), [&](SDPBackend backend) {
    return std::find(order.begin(), order.end(), backend) == order.end();
  });
  set_order(order);
}

OnlyBackends::~OnlyBackends() {
  allow(flash_, efficient_, cudnn_, math_);
  set_order(order_);
}

void OnlyBackends::set_order(const std::vector<SDPBackend>& order) {
  std::vector<std::int64_t> numbers;
  for (const SDPBackend backend : order) numbers.push_back(static_cast<std::int64_t>(backend));
  at::globalContext().setSDPPriorityOrder(numbers);
}

void OnlyBackends::allow(bool flash, bool efficient, bool cudnn, bool math) {
  at::Context& context = at::globalContext();
  context.setSDPUseFlash(flash);
  context.setSDPUseMemEfficient(efficient);
  context.setSDPUseCuDNN(cudnn);
  context.setSDPUseMath(math);
}

std::vector<SDPBackend> usable_backends(const AttentionCall& call, const std::vector<SDPBackend>& backends) {
  const Trial trial(call);
  std::vector<SDPBackend> usable;
  std::copy_if(backends.begin(), backends.end(), std::back_inserter(usable),
               [&](SDPBackend backend) { return trial.can(backend); });
  return usable;
}

double seconds_of(const AttentionCall& call, SDPBackend backend) {
  const OnlyBackends only({backend});
  const Trial trial(call);
  return least_seconds(call.q.device(), [&] { trial.run(); });
}

std::optional<SDPBackend> AttentionTuner::choose(const AttentionCall& call) {
  const AttentionShape shape(call);
  const std::lock_guard lock(mutex_);
  if (const auto known = chosen_.find(shape); known != chosen_.end()) return known->second;
  return chosen_[shape] = fastest(shape, call);
}

at::Tensor AttentionTuner::attend(const AttentionCall& call) {
  // As autocast would, and with columns beside each other, without which no fused kernel takes a bias.
  const at::Tensor bias = call.bias.defined() ? call.bias.to(call.q.scalar_type()).contiguous() : call.bias;
  const AttentionCall ready{call.q, call.k, call.v, bias};
  const std::optional<SDPBackend> backend = choose(ready);
  if (!backend) return model::attend(ready);
  const OnlyBackends only({*backend, SDPBackend::efficient_attention, SDPBackend::math});
  return model::attend(ready);
}

std::optional<SDPBackend> AttentionTuner::fastest(const AttentionShape& shape,
                                                  const AttentionCall& call) const {
  constexpr double kClearly = 0.95;
  std::optional<SDPBackend> best;
  double least = 0;
  std::string times;
  for (const SDPBackend backend : usable_backends(call, preference_)) {
    // With one query cuDNN's gradients were seen to be NaN (NVIDIA/cudnn-frontend issue 1072).
    if (backend == SDPBackend::cudnn_attention && shape.queries == 1) continue;
    const std::optional<double> seconds = measured(call, backend);
    if (!seconds) continue;
    times += fmt::format("{}{} {:.3f} ms", times.empty() ? "" : ", ", name_of(backend), *seconds * 1000);
    if (best && *seconds >= kClearly * least) continue;
    best = backend;
    least = *seconds;
  }
  spdlog::info("attention of {} heads, {} x {} tokens, width {}, {}: {}", shape.heads, shape.queries,
               shape.keys, shape.width, at::toString(shape.dtype),
               best ? fmt::format("{} ({})", name_of(*best), times) : "as LibTorch chooses");
  return best;
}

std::optional<double> AttentionTuner::measured(const AttentionCall& call, SDPBackend backend) const {
  try {
    return seconds_(call, backend);
  } catch (const std::exception& error) {
    spdlog::info("{} is not used: {}", name_of(backend), error.what());
    return std::nullopt;
  }
}

}  // namespace cosub::model
