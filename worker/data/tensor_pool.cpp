#include "worker/data/tensor_pool.h"

#include <ATen/ops/empty.h>

#include <atomic>

namespace cosub::data {

at::Tensor TensorPool::take(at::IntArrayRef shape, at::ScalarType type) {
  const std::lock_guard lock(mutex_);
  for (const at::Tensor& tensor : tensors_) {
    // Views share the storage, copies of the handle the tensor.
    const bool is_free = tensor.use_count() == 1 && tensor.storage().use_count() == 1;
    if (!is_free || tensor.scalar_type() != type || tensor.sizes() != shape) continue;
    std::atomic_thread_fence(std::memory_order_acquire);  // what the last holder did to it is done
    return tensor;
  }
  return tensors_.emplace_back(at::empty(shape, type));
}

}  // namespace cosub::data
