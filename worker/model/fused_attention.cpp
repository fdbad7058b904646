#include "worker/model/fused_attention.h"

#include <c10/core/InferenceMode.h>

#include <memory>
#include <stdexcept>

#include "worker/model/attention_tuner.h"

namespace cosub::model {
namespace {

using at::SDPBackend;

std::vector<SDPBackend> preference(config::AttentionBackend wanted, bool rows_vary) {
  switch (wanted) {
    case config::AttentionBackend::kAuto:
      if (rows_vary) return {SDPBackend::flash_attention, SDPBackend::efficient_attention};
      return {SDPBackend::flash_attention, SDPBackend::cudnn_attention, SDPBackend::efficient_attention};
    case config::AttentionBackend::kFlash:
      return {SDPBackend::flash_attention};
    case config::AttentionBackend::kCudnn:
      return {SDPBackend::cudnn_attention};
    case config::AttentionBackend::kEfficient:
      return {SDPBackend::efficient_attention};
  }
  throw std::logic_error("unknown attention backend");
}

double seconds_of_result(const AttentionCall& call, SDPBackend backend) {
  const c10::InferenceMode without_gradients;
  return seconds_of(call, backend);
}

/// Of the process: for all of attention, and for the result alone where our own kernel computes the
/// gradients.
struct Tuners {
  explicit Tuners(config::AttentionBackend wanted, bool rows_vary)
      : is_free(wanted == config::AttentionBackend::kAuto),
        whole(preference(wanted, rows_vary), seconds_of),
        result(rows_vary ? std::vector{SDPBackend::flash_attention}
                         : std::vector{SDPBackend::flash_attention, SDPBackend::cudnn_attention},
               seconds_of_result) {}

  const bool is_free;
  AttentionTuner whole, result;
};

std::unique_ptr<Tuners>& tuners() {
  static auto made = std::make_unique<Tuners>(config::AttentionBackend::kAuto, false);
  return made;
}

AttentionWithSums with_sums(const AttentionCall& call, SDPBackend backend) {
  if (backend == SDPBackend::cudnn_attention) {
    const auto found = at::_scaled_dot_product_cudnn_attention(call.q, call.k, call.v, std::nullopt,
                                                               /*compute_log_sumexp=*/true);
    return {std::get<0>(found), std::get<1>(found)};
  }
  const auto found = at::_scaled_dot_product_flash_attention(call.q, call.k, call.v);
  return {std::get<0>(found), std::get<1>(found)};
}

AttentionWithSums with_sums_on_cpu(const AttentionCall& call) {
  const auto [out, log_sums] = at::_scaled_dot_product_flash_attention_for_cpu(call.q, call.k, call.v);
  return {out, log_sums};
}

}  // namespace

void set_attention_backend(config::AttentionBackend backend, bool rows_vary) {
  tuners() = std::make_unique<Tuners>(backend, rows_vary);
}

bool attention_backend_is_free() {
  return tuners()->is_free;
}

at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& bias) {
  const AttentionCall call{q, k, v, bias};
  return q.is_cpu() ? attend(call) : tuners()->whole.attend(call);
}

AttentionWithSums attention_with_sums(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const at::Tensor no_bias;
  const AttentionCall call{q, k, v, no_bias};
  AttentionWithSums found =
      q.is_cpu() ? with_sums_on_cpu(call)
                 : with_sums(call, tuners()->result.choose(call).value_or(SDPBackend::flash_attention));
  found.log_sums = found.log_sums.reshape({q.size(0), q.size(1), q.size(2)}).to(at::kFloat).contiguous();
  return found;
}

}  // namespace cosub::model
