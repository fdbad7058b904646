#include "worker/kernels/lamb_tables.h"

#include <algorithm>

namespace cosub::kernels {

LambTables lamb_tables(const std::vector<UpdateGroup>& tensors) {
  LambTables tables;
  for (const UpdateGroup& tensor : tensors) {
    const auto index = static_cast<std::int64_t>(tables.tensors.size());
    const auto first = static_cast<std::int64_t>(tables.chunks.size());
    for (std::int64_t begin = tensor.begin; begin < tensor.end; begin += kLambChunk)
      tables.chunks.push_back({index, begin, std::min(begin + kLambChunk, tensor.end)});
    const auto count = static_cast<std::int64_t>(tables.chunks.size()) - first;
    tables.tensors.push_back({first, count, tensor.lr_scale, tensor.weight_decay});
  }
  return tables;
}

}  // namespace cosub::kernels
