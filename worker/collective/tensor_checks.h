// What every Communicator checks of the tensors that it is given. Wrong ones are mistakes of our own, hence
// std::logic_error.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace cosub::collective {

/// Contiguous, on `device`, float32, float64, int64 or uint8.
void check_tensor(const at::Tensor& tensor, at::DeviceType device, const char* operation);

/// One good tensor for each rank.
void check_tensors(const std::vector<at::Tensor>& tensors, std::int64_t world_size, at::DeviceType device,
                   const char* operation);

/// Copies what a rank sends to itself, unless it is the same memory.
void copy_own(const at::Tensor& from, at::Tensor& to);

}  // namespace cosub::collective
