#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <array>
#include <cstring>
#include <utility>

#include "common/error.h"
#include "common/safetensors.h"
#include "worker/checkpoint/checkpoint.h"

namespace cosub::checkpoint {
namespace {

using safetensors::DType;

constexpr std::array<std::pair<at::ScalarType, DType>, 10> kTypes = {{{at::kBool, DType::kBool},
                                                                      {at::kByte, DType::kU8},
                                                                      {at::kChar, DType::kI8},
                                                                      {at::kShort, DType::kI16},
                                                                      {at::kInt, DType::kI32},
                                                                      {at::kLong, DType::kI64},
                                                                      {at::kHalf, DType::kF16},
                                                                      {at::kBFloat16, DType::kBF16},
                                                                      {at::kFloat, DType::kF32},
                                                                      {at::kDouble, DType::kF64}}};

DType to_dtype(at::ScalarType type, const std::string& tensor) {
  for (const auto& [ours, theirs] : kTypes) {
    if (ours == type) return theirs;
  }
  throw Error(
      fmt::format("tensor {} has type {}, which safetensors cannot hold", tensor, at::toString(type)));
}

at::ScalarType to_scalar_type(DType dtype) {
  for (const auto& [ours, theirs] : kTypes) {
    if (theirs == dtype) return ours;
  }
  throw std::logic_error("safetensors dtype without a tensor type");
}

}  // namespace

Tensors load_tensors(const std::filesystem::path& file) {
  const safetensors::File mapped(file);
  Tensors tensors;
  for (const auto& [name, info] : mapped.header().tensors) {
    const auto bytes = mapped.bytes(name);
    at::Tensor tensor = at::empty(info.shape, to_scalar_type(info.dtype));
    // Copied out: the file may be pruned or replaced while the tensor lives.
    if (!bytes.empty()) std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
    tensors.emplace(name, std::move(tensor));
  }
  return tensors;
}

void save_tensors(const std::filesystem::path& file, const Tensors& tensors,
                  const std::map<std::string, std::string>& metadata) {
  std::vector<at::Tensor> contiguous;  // keeps the bytes alive until they are written
  std::vector<safetensors::Entry> entries;
  for (const auto& [name, tensor] : tensors) {
    contiguous.push_back(tensor.detach().cpu().contiguous());
    const at::Tensor& values = contiguous.back();
    const auto* begin = static_cast<const std::byte*>(values.const_data_ptr());
    entries.push_back(
        {name, to_dtype(values.scalar_type(), name), values.sizes().vec(), {begin, values.nbytes()}});
  }
  safetensors::write(file, std::move(entries), metadata);
}

}  // namespace cosub::checkpoint
