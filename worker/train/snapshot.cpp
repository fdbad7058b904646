#include "worker/train/snapshot.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "common/error.h"
#include "worker/collective/reduction/partition.h"
#include "worker/train/agreement.h"

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

std::string kept_file(std::int64_t rank) {
  return fmt::format("exchange-{}", rank);
}

std::string kept_prefix(std::size_t index) {
  return fmt::format("lost.{}.", index);
}

/// Rank `from`'s `mine` on rank `to`, undefined on the others; of one shape on all.
at::Tensor moved(collective::Communicator& communicator, const at::Tensor& mine, std::int64_t from,
                 std::int64_t to, const std::string& what) {
  const std::int64_t rank = communicator.rank();
  if (from == to) return rank == to ? mine : at::Tensor();
  const at::Tensor nothing = at::empty({0}, mine.options());
  std::vector<at::Tensor> send(static_cast<std::size_t>(communicator.world_size()), nothing), recv = send;
  if (rank == from) send[static_cast<std::size_t>(to)] = mine;
  if (rank == to) recv[static_cast<std::size_t>(from)] = at::empty_like(mine);
  communicator.all_to_all(send, recv, what);
  return rank == to ? recv[static_cast<std::size_t>(from)] : at::Tensor();
}

/// The sum of what the ranks in `ranks` kept.
std::vector<at::Tensor> kept_by(const checkpoint::Snapshot& snapshot, const FlatState& state,
                                const collective::Range& ranks, const std::vector<at::Tensor>& like,
                                const std::string& where) {
  std::vector<at::Tensor> sums;
  for (std::size_t i = 0; i < like.size(); ++i) {
    const at::Tensor sum = sums.emplace_back(at::zeros_like(like[i])), one = at::zeros_like(sum);
    for (std::int64_t rank = ranks.begin; rank < ranks.end; ++rank) {
      Reader(snapshot, kept_file(rank), where).copy_slots(state.parameters(), one, kept_prefix(i));
      sum.add_(one);
    }
  }
  return sums;
}

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

void add_kept(checkpoint::Snapshot& snapshot, collective::Communicator& communicator, const FlatState& state,
              const std::vector<at::Tensor>& kept) {
  for (std::int64_t rank = 0; rank < communicator.world_size(); ++rank) {
    for (std::size_t i = 0; i < kept.size(); ++i) {
      const std::string what = fmt::format("what the exchange of rank {} keeps, for the checkpoint", rank);
      const at::Tensor flat = moved(communicator, kept[i], rank, 0, what);
      if (flat.defined())
        add_slots(snapshot.files[kept_file(rank)], state.parameters(), flat, kept_prefix(i));
    }
  }
  if (!kept.empty()) communicator.check();  // or a GPU's broken exchange would be saved
}

void restore_kept(const checkpoint::Snapshot* snapshot, collective::Communicator& communicator,
                  const FlatState& state, const std::vector<at::Tensor>& kept, const std::string& where) {
  if (kept.empty()) return;
  const at::NoGradGuard no_grad;
  std::int64_t num_before = 0;
  while (snapshot != nullptr && snapshot->files.contains(kept_file(num_before))) ++num_before;
  num_before = std::stoll(
      text_of_rank_0(communicator, std::to_string(num_before), "the ranks whose exchange kept something"));
  const std::int64_t world_size = communicator.world_size();
  const bool same_ranks = num_before == world_size;
  if (num_before == 0) return;
  if (!same_ranks && kept.size() > 1) {
    if (communicator.rank() != 0) return;
    spdlog::warn(
        "exchange.error_feedback: {} ranks go on from a checkpoint of {}: with sync_batchnorm what rounding "
        "lost before it is forgotten then",
        world_size, num_before);
    return;
  }
  for (std::int64_t rank = 0; rank < (same_ranks ? world_size : 1); ++rank) {
    const std::string what = fmt::format("what the exchange of rank {} kept", rank);
    std::vector<at::Tensor> sums = kept;  // on rank 0 those of `rank`; elsewhere they only say the shape
    on_all_ranks(communicator, what, [&] {
      if (snapshot == nullptr) return;
      const collective::Range ranks =
          same_ranks ? collective::Range{rank, rank + 1} : collective::Range{0, num_before};
      sums = kept_by(*snapshot, state, ranks, kept, where);
    });
    for (std::size_t i = 0; i < kept.size(); ++i) {
      const at::Tensor mine = moved(communicator, sums[i], 0, rank, what);
      if (mine.defined()) kept[i].copy_(mine);
    }
  }
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
