#include "worker/train/flat_state.h"

#include <algorithm>
#include <set>
#include <span>

#include "common/atomic_file.h"

namespace cosub::train {
namespace {

constexpr std::int64_t kAlignment = 64 / sizeof(float);

std::int64_t aligned(std::int64_t numel) {
  return (numel + kAlignment - 1) / kAlignment * kAlignment;
}

bool decays(const std::string& name, const at::Tensor& parameter, const std::set<std::string>& excluded) {
  return parameter.dim() > 1 && !name.ends_with(".bias") && !excluded.contains(name);
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

}  // namespace

FlatState::FlatState(model::Backbone& backbone) {
  std::vector<std::string> names = backbone.no_weight_decay();
  std::set<std::string> excluded(names.begin(), names.end());
  std::int64_t offset = 0;
  auto place = [&offset](std::vector<Slot>& slots, const std::string& name, const at::Tensor& tensor) {
    slots.push_back({name, tensor, offset, tensor.numel()});
    offset += aligned(tensor.numel());
  };
  for (bool decayed : {true, false}) {
    for (const auto& parameter : backbone.named_parameters())
      if (decays(parameter.key(), parameter.value(), excluded) == decayed)
        place(parameters_, parameter.key(), parameter.value());
    if (decayed) num_decayed_ = offset;
  }
  num_parameters_ = offset;
  for (const auto& buffer : backbone.named_buffers()) {
    if (buffer.value().is_floating_point())
      place(buffers_, buffer.key(), buffer.value());
    else
      integers_[buffer.key()] = buffer.value();
  }

  at::NoGradGuard no_grad;
  at::TensorOptions options = at::kFloat;
  if (!parameters_.empty()) options = parameters_.front().tensor.options().requires_grad(false);
  values_ = at::zeros({offset}, options);
  for (std::vector<Slot>* slots : {&parameters_, &buffers_}) {
    for (Slot& slot : *slots) {
      at::Tensor place_in_values = view(values_, slot);
      place_in_values.copy_(slot.tensor);
      slot.tensor.set_data(place_in_values);
    }
  }
}

void FlatState::bind_gradients(const at::Tensor& gradients) {
  for (Slot& slot : parameters_) slot.tensor.mutable_grad() = view(gradients, slot);
}

at::Tensor FlatState::view(const at::Tensor& flat, const Slot& slot) {
  return flat.narrow(0, slot.offset, slot.numel).view(slot.tensor.sizes());
}

std::string FlatState::hash() const {
  std::string joined = xxh3_hex(bytes_of(values_.cpu()));
  for (const auto& [name, tensor] : integers_) joined += xxh3_hex(bytes_of(tensor.cpu().contiguous()));
  return integers_.empty() ? joined : xxh3_hex(std::as_bytes(std::span(joined)));
}

}  // namespace cosub::train
