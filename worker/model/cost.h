// What a model costs, measured on a forward pass in training mode on CPU: multiply-adds and the memory that
// the backward pass needs. Not thread-safe; reseeds nothing.
#pragma once

#include "worker/model/model.h"

namespace cosub::model {

struct Cost {
  /// Of one image through all blocks, forward: matrix products, convolutions and attention, as many as really
  /// run (fewer than is published of a ViT: see class_token_after). Norms, activations and sums are left out,
  /// as usual. The backward pass takes about twice as many.
  std::int64_t multiply_adds = 0;
  /// What one more row of a microbatch keeps for the backward pass, float32, all branches running on it.
  std::int64_t activation_bytes_per_row = 0;
};

/// Runs 2 and 3 random images of the model's size. The model is left in training mode.
Cost measure_cost(Backbone& backbone);

/// Multiply-adds of one forward pass as `pass` says, counting only the rows that run. Runs 3 and 4 random
/// images, however many the pass has, once and for each number of rows that branches keep. The model is left
/// in training mode.
std::int64_t multiply_adds_of_pass(Backbone& backbone, const Pass& pass);

}  // namespace cosub::model
