#include "worker/model/kernel_calls.h"

#include <ATen/autocast_mode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace cosub::model {

const kernels::Kernels* kernels_for(const at::Tensor& x) {
  const kernels::Kernels* loaded = kernels::loaded_kernels();
  if (loaded == nullptr || !x.defined()) return nullptr;
  return (loaded->on_cpu ? x.is_cpu() : x.is_cuda()) ? loaded : nullptr;
}

std::optional<at::ScalarType> product_dtype(const at::Tensor& x) {
  const at::DeviceType device = x.device().type();
  if (!at::autocast::is_autocast_enabled(device)) return at::kFloat;
  if (at::autocast::get_autocast_dtype(device) == at::kBFloat16) return at::kBFloat16;
  return std::nullopt;
}

bool is_plain_for_kernels(const at::Tensor& x) {
  return kernels_for(x) != nullptr && x.scalar_type() == at::kFloat && x.is_contiguous();
}

bool is_result_for_kernels(const at::Tensor& x) {
  return kernels_for(x) != nullptr && x.is_contiguous() &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

kernels::Dtype kernel_dtype(const at::Tensor& x) {
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, "no kernel for ",
              x.scalar_type());
  return x.scalar_type() == at::kFloat ? kernels::Dtype::kFloat32 : kernels::Dtype::kBfloat16;
}

StreamOf::StreamOf(const at::Tensor& x) : guard_(x.is_cpu() ? std::nullopt : std::optional(x.device())) {
  if (!x.is_cpu())
    stream_ = c10::impl::VirtualGuardImpl(x.device().type()).getStream(x.device()).native_handle();
}

at::Tensor aligned_to_16(const at::Tensor& x) {
  return reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % 16 == 0 ? x : x.clone();
}

at::Tensor floats_like(const at::Tensor& x, at::IntArrayRef sizes) {
  return at::empty(sizes, x.options().dtype(at::kFloat));
}

}  // namespace cosub::model
