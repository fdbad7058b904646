// LAMB's tables of tensors and chunks, made once on the host and copied to the GPU by the caller.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/kernels/update_arguments.h"

namespace cosub::kernels {

struct LambTables {
  std::vector<LambTensor> tensors;
  std::vector<LambChunk> chunks;  // of at most kLambChunk elements
};
inline constexpr std::int64_t kLambChunk = 16'384;

/// `tensors`: each as a group of its own, begin and end without padding.
LambTables lamb_tables(const std::vector<UpdateGroup>& tensors);

}  // namespace cosub::kernels
