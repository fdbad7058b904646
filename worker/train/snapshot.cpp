#include "worker/train/snapshot.h"

#include <fmt/format.h>

#include "common/error.h"

namespace cosub::train {
namespace {

void add_slots(checkpoint::Tensors& tensors, const std::vector<Slot>& slots, const at::Tensor& flat,
               const std::string& prefix) {
  for (const Slot& slot : slots) tensors[prefix + slot.name] = FlatState::view(flat, slot).detach().cpu();
}

/// The tensors of one file of a snapshot, looked up by name and checked.
class Reader {
 public:
  Reader(const checkpoint::Snapshot& snapshot, const std::string& file, const std::string& where)
      : where_(fmt::format("{}/{}.safetensors", where, file)) {
    auto found = snapshot.files.find(file);
    if (found == snapshot.files.end()) throw DataError(where_ + " is missing");
    tensors_ = &found->second;
  }

  void copy(const std::string& name, at::Tensor to) const {
    auto found = tensors_->find(name);
    if (found == tensors_->end()) throw DataError(fmt::format("{}: tensor {} is missing", where_, name));
    if (found->second.sizes() != to.sizes())
      throw DataError(fmt::format("{}: tensor {} has {} numbers in another shape than this model's", where_,
                                  name, found->second.numel()));
    to.copy_(found->second);
  }

  void copy_slots(const std::vector<Slot>& slots, const at::Tensor& flat,
                  const std::string& prefix = "") const {
    for (const Slot& slot : slots) copy(prefix + slot.name, FlatState::view(flat, slot));
  }

 private:
  std::string where_;
  const checkpoint::Tensors* tensors_ = nullptr;
};

}  // namespace

checkpoint::Tensors named_tensors(const FlatState& state, const at::Tensor& flat) {
  checkpoint::Tensors tensors;
  add_slots(tensors, state.parameters(), flat, "");
  add_slots(tensors, state.buffers(), flat, "");
  for (const auto& [name, tensor] : state.integers()) tensors[name] = tensor.cpu();
  return tensors;
}

void add_tensors(checkpoint::Snapshot& snapshot, FlatState& state, Optimizer& optimizer, Ema* ema) {
  snapshot.files["model"] = named_tensors(state, state.values());
  if (ema != nullptr) snapshot.files["ema"] = named_tensors(state, ema->average());
  checkpoint::Tensors& moments = snapshot.files["optimizer-0"];
  for (const auto& [name, flat] : optimizer.state()) add_slots(moments, state.parameters(), flat, name + ".");
}

void restore_tensors(const checkpoint::Snapshot& snapshot, FlatState& state, Optimizer& optimizer, Ema* ema,
                     const std::string& where) {
  at::NoGradGuard no_grad;
  Reader model(snapshot, "model", where);
  model.copy_slots(state.parameters(), state.values());
  model.copy_slots(state.buffers(), state.values());
  for (const auto& [name, tensor] : state.integers()) model.copy(name, tensor);
  if (ema != nullptr) {
    Reader average(snapshot, "ema", where);
    average.copy_slots(state.parameters(), ema->average());
    average.copy_slots(state.buffers(), ema->average());
  }
  Reader moments(snapshot, "optimizer-0", where);
  for (const auto& [name, flat] : optimizer.state()) moments.copy_slots(state.parameters(), flat, name + ".");
}

void broadcast_state(collective::Communicator& communicator, FlatState& state, Optimizer* optimizer,
                     Ema* ema) {
  communicator.broadcast(state.values(), 0, "parameters of rank 0");
  for (const auto& [name, tensor] : state.integers()) {
    at::Tensor flat = tensor.reshape({-1});
    communicator.broadcast(flat, 0, "buffer " + name);
    tensor.copy_(flat.view(tensor.sizes()));
  }
  if (optimizer != nullptr) {
    for (const auto& [name, flat] : optimizer->state()) {
      at::Tensor moments = flat;
      communicator.broadcast(moments, 0, name + " of rank 0");
    }
  }
  if (ema != nullptr) communicator.broadcast(ema->average(), 0, "average of rank 0");
}

}  // namespace cosub::train
