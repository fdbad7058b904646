#include "worker/model/fused_attention.h"

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

std::unique_ptr<AttentionTuner>& tuner() {
  static auto made =
      std::make_unique<AttentionTuner>(preference(config::AttentionBackend::kAuto, false), seconds_of);
  return made;
}

}  // namespace

void set_attention_backend(config::AttentionBackend backend, bool rows_vary) {
  tuner() = std::make_unique<AttentionTuner>(preference(backend, rows_vary), seconds_of);
}

at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& bias) {
  const AttentionCall call{q, k, v, bias};
  return q.is_cpu() ? attend(call) : tuner()->attend(call);
}

}  // namespace cosub::model
