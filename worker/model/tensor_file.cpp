#include "worker/model/tensor_file.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <utility>

#include "common/error.h"
#include "common/safetensors.h"

namespace cosub::model {
namespace {

using safetensors::DType;

constexpr std::array<std::pair<DType, at::ScalarType>, 10> kTypes = {{{DType::kBool, at::kBool},
                                                                      {DType::kU8, at::kByte},
                                                                      {DType::kI8, at::kChar},
                                                                      {DType::kI16, at::kShort},
                                                                      {DType::kI32, at::kInt},
                                                                      {DType::kI64, at::kLong},
                                                                      {DType::kF16, at::kHalf},
                                                                      {DType::kBF16, at::kBFloat16},
                                                                      {DType::kF32, at::kFloat},
                                                                      {DType::kF64, at::kDouble}}};

at::ScalarType scalar_type(DType dtype) {
  for (const auto& [file, tensor] : kTypes) {
    if (file == dtype) return tensor;
  }
  throw std::logic_error("safetensors dtype without a tensor type");
}

DType file_type(at::ScalarType type, const std::string& name) {
  for (const auto& [file, tensor] : kTypes) {
    if (tensor == type) return file;
  }
  throw DataError(fmt::format("{}: {} tensors cannot be stored as safetensors", name, at::toString(type)));
}

}  // namespace

std::map<std::string, at::Tensor> read_tensors(const std::filesystem::path& path) {
  const safetensors::File file(path);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, info] : file.header().tensors) {
    at::Tensor tensor = at::empty(info.shape, scalar_type(info.dtype));
    const std::span<const std::byte> bytes = file.bytes(name);
    if (!bytes.empty()) std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
    tensors.emplace(name, std::move(tensor));
  }
  return tensors;
}

std::map<std::string, std::string> read_metadata(const std::filesystem::path& path) {
  return safetensors::File(path).header().metadata;
}

void write_tensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                   const std::map<std::string, std::string>& metadata) {
  std::vector<at::Tensor> alive;
  std::vector<safetensors::Entry> entries;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor& stored = alive.emplace_back(tensor.detach().to(at::kCPU).contiguous());
    entries.push_back({name,
                       file_type(stored.scalar_type(), name),
                       stored.sizes().vec(),
                       {static_cast<const std::byte*>(stored.const_data_ptr()), stored.nbytes()}});
  }
  safetensors::write(path, std::move(entries), metadata);
}

}  // namespace cosub::model
