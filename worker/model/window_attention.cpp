#include "worker/model/window_attention.h"

#include "worker/model/fused_attention.h"

namespace cosub::model {

at::Tensor window_attention(const at::Tensor& qkv, const at::Tensor& bias, bool folds) {
  if (!folds) return at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], bias);
  const std::int64_t first = bias.size(0) == 1 ? 0 : 1;
  const auto folded = [&](std::int64_t i) { return qkv[i].flatten(first, first + 1); };
  return fused_attention(folded(0), folded(1), folded(2), bias.flatten(0, 1).unsqueeze(0))
      .reshape(qkv[0].sizes());
}

}  // namespace cosub::model
