// What the host gives to a step: images, targets, kept rows and a few numbers, microbatch by microbatch. On a
// GPU they go to buffers that stay where they are, through pinned memory and without waiting, so that the
// work on them can be captured into a CUDA graph once and replayed for every step. Owned by TrainStep and
// used by its thread.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <vector>

#include "worker/data/microbatch.h"
#include "worker/model/residual.h"

namespace cosub::train {

struct MicrobatchInputs {
  enum Number : std::int64_t { kLambda, kStop, kCheckpoint, kBadSamples, kNumbers };
  using Numbers = std::array<double, kNumbers>;

  std::int64_t step = 0, index = 0;
  at::Tensor images;   // [B, C, S, S]
  at::Tensor targets;  // [B, classes]
  at::Tensor numbers;  // [kNumbers]; all three of the model's dtype, on its device
  model::Pass pass;
};

class StepInputs {
 public:
  /// `like`: dtype and device of the model. `fixed`: the tensors of place p of a step are the same memory in
  /// each step; all of a step's may be put before the first is used, but must have one shape.
  StepInputs(at::TensorOptions like, bool fixed) : like_(like), fixed_(fixed) {}

  /// Valid until the next put at this place.
  const MicrobatchInputs& put(std::size_t place, const data::Microbatch& batch, model::Pass pass,
                              const MicrobatchInputs::Numbers& numbers);
  const MicrobatchInputs& at(std::size_t place) const { return places_.at(place); }

 private:
  void move(const at::Tensor& from, at::Tensor& to) const;

  at::TensorOptions like_;
  bool fixed_;
  std::vector<MicrobatchInputs> places_;
};

}  // namespace cosub::train
