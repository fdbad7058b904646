#include "worker/collective/tensor_checks.h"

#include <fmt/format.h>

#include <sstream>
#include <stdexcept>

namespace cosub::collective {

void check_tensor(const at::Tensor& tensor, at::DeviceType device, const char* operation) {
  if (!tensor.defined()) throw std::logic_error(fmt::format("{}: undefined tensor", operation));
  const auto type = tensor.scalar_type();
  const bool known = type == at::kFloat || type == at::kDouble || type == at::kLong || type == at::kByte;
  if (known && tensor.is_contiguous() && tensor.device().type() == device) return;
  std::ostringstream found;
  found << at::toString(type) << " on " << tensor.device()
        << (tensor.is_contiguous() ? "" : ", not contiguous");
  throw std::logic_error(
      fmt::format("{}: needs a contiguous float32, float64, int64 or uint8 tensor on {}; got {}", operation,
                  c10::DeviceTypeName(device, true), found.str()));
}

void check_tensors(const std::vector<at::Tensor>& tensors, std::int64_t world_size, at::DeviceType device,
                   const char* operation) {
  if (static_cast<std::int64_t>(tensors.size()) != world_size) {
    throw std::logic_error(fmt::format("{}: needs one tensor for each of {} ranks; got {}", operation,
                                       world_size, tensors.size()));
  }
  for (const auto& tensor : tensors) check_tensor(tensor, device, operation);
}

void copy_own(const at::Tensor& from, at::Tensor& to) {
  if (from.numel() != to.numel() || from.scalar_type() != to.scalar_type()) {
    throw std::logic_error(
        fmt::format("a rank sends itself {} elements but receives {}", from.numel(), to.numel()));
  }
  if (from.data_ptr() != to.data_ptr()) to.view(-1).copy_(from.view(-1));
}

}  // namespace cosub::collective
