#include "worker/train/step_inputs.h"

#include <utility>

namespace cosub::train {
namespace {

/// Pinned where the numbers go to a GPU: LibTorch's allocator gives such a block out again only when the
/// copies from it are done.
at::Tensor staged(const at::Tensor& host, const at::TensorOptions& to) {
  return to.device().is_cpu() || host.is_pinned() ? host : host.pin_memory();
}

}  // namespace

const MicrobatchInputs& StepInputs::put(std::size_t place, const data::Microbatch& batch, model::Pass pass,
                                        const MicrobatchInputs::Numbers& numbers) {
  const at::NoGradGuard no_grad;
  if (place >= places_.size()) places_.resize(place + 1);
  MicrobatchInputs& inputs = places_[place];
  inputs.step = batch.step;
  inputs.index = batch.index;
  const bool on_host = like_.device().is_cpu();
  at::Tensor rows = std::move(inputs.pass.rows);
  if (!on_host || fixed_) move(pass.kept.all_rows(!on_host), rows);
  move(batch.images, inputs.images);
  move(batch.targets, inputs.targets);
  move(at::tensor(at::ArrayRef<double>(numbers), at::kDouble), inputs.numbers);
  inputs.pass = std::move(pass);
  inputs.pass.rows = std::move(rows);
  return inputs;
}

void StepInputs::move(const at::Tensor& from, at::Tensor& to) const {
  const at::TensorOptions wanted = from.is_floating_point() ? like_ : like_.dtype(from.scalar_type());
  const at::Tensor source = from.is_cpu() ? staged(from.to(wanted.dtype()), like_) : from;
  if (fixed_ && to.defined()) {
    TORCH_CHECK(to.sizes() == source.sizes(), "StepInputs: ", source.sizes(), " in a place of ", to.sizes());
    to.copy_(source, /*non_blocking=*/true);
  } else {
    to = source.to(wanted, /*non_blocking=*/true, /*copy=*/fixed_);
  }
}

}  // namespace cosub::train
