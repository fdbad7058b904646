// Batches' memory used again: a batch of images is tens of megabytes, which the system would hand out page by
// page every time. Thread-safe.
#pragma once

#include <ATen/ATen.h>

#include <mutex>
#include <vector>

namespace cosub::data {

class TensorPool {
 public:
  /// An uninitialised CPU tensor: one of that shape and type that nobody else holds any more, or a new one.
  at::Tensor take(at::IntArrayRef shape, at::ScalarType type);

 private:
  std::mutex mutex_;
  std::vector<at::Tensor> tensors_;  // as many as were ever held at the same time
};

}  // namespace cosub::data
