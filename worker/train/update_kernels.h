// Which updates our kernels (worker/kernels) make, and what these share.
#pragma once

#include <ATen/ATen.h>

#include "worker/kernels/kernels.h"
#include "worker/train/optimizer.h"

namespace cosub::train {

/// The kernels that update a vector like `values` where it is: float32, on the device of loaded kernels;
/// null: LibTorch's operators do.
const kernels::Kernels* update_kernels(const at::Tensor& values);

kernels::UpdateGroup kernel_group(const ParameterGroup& group, double weight_decay);

/// A table of the host's on `device`.
template <typename Row>
at::Tensor on_device(const std::vector<Row>& rows, at::Device device) {
  const auto size = static_cast<std::int64_t>(rows.size() * sizeof(Row));
  const auto bytes = at::from_blob(const_cast<Row*>(rows.data()), {size}, at::kByte);
  return bytes.to(device, /*non_blocking=*/false, /*copy=*/true);
}

}  // namespace cosub::train
