// A model's parameters and floating buffers as views of one vector, so that optimizer, EMA, broadcast and
// hash are each a single operation over it:
//   values: [ decayed parameters | parameters without weight decay | floating buffers ]
// All of the parameters' dtype, float32 but in tests. Each tensor starts at a multiple of 64 bytes; the
// padding is zero and stays zero. A vector of gradients has the layout of the parameters' part. Owned by
// whoever trains or evaluates the model; not thread-safe.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "worker/model/model.h"

namespace cosub::train {

struct Slot {
  std::string name;         // timm's
  at::Tensor tensor;        // the model's own: a view of values
  std::int64_t offset = 0;  // floats from the start of values
  std::int64_t numel = 0;
};

class FlatState {
 public:
  /// Moves the model's tensors into one vector on the device they are on; the model keeps using them.
  /// Weight decay as in timm: none for 1-D tensors, biases and Backbone::no_weight_decay().
  explicit FlatState(model::Backbone& backbone);

  at::Tensor& values() { return values_; }  // [size]
  std::int64_t size() const { return values_.numel(); }
  std::int64_t num_decayed() const { return num_decayed_; }  // floats before the second part
  std::int64_t num_parameters() const {
    return num_parameters_;
  }  // floats before the buffers, padding included
  const std::vector<Slot>& parameters() const { return parameters_; }
  const std::vector<Slot>& buffers() const { return buffers_; }

  /// From now on backward adds into these views of `gradients` ([num_parameters()], of the dtype of values).
  /// Zero it by gradients.zero_(), never by zero_grad(), which drops the views.
  void bind_gradients(const at::Tensor& gradients);

  /// The part of a vector laid out like values (or its parameters) that belongs to one tensor, in its shape.
  static at::Tensor view(const at::Tensor& flat, const Slot& slot);

  /// Integer buffers (num_batches_tracked), by name; live tensors, not part of values.
  const std::map<std::string, at::Tensor>& integers() const { return integers_; }

  /// XXH3-64 over values and integer buffers, 16 hex digits. Equal on two ranks exactly when the models are.
  std::string hash() const;

 private:
  at::Tensor values_;
  std::int64_t num_decayed_ = 0, num_parameters_ = 0;
  std::vector<Slot> parameters_, buffers_;
  std::map<std::string, at::Tensor> integers_;
};

}  // namespace cosub::train
