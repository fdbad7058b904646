// The pre-norm transformer block that ViT and PiT share, under timm's names: norm1, attn (qkv, proj), ls1,
// norm2, mlp, ls2. Two residual branches: NAME.attn and NAME.mlp.
#pragma once

#include "worker/model/layers.h"
#include "worker/model/residual.h"

namespace cosub::model {

class Attention : public torch::nn::Module {
 public:
  Attention(std::int64_t dim, std::int64_t num_heads);
  at::Tensor forward(const at::Tensor& x) const;              // [N, L, D] -> [N, L, D]
  at::Tensor forward_class_token(const at::Tensor& x) const;  // [N, L, D] -> [N, 1, D], of the first token

 private:
  std::int64_t num_heads_;
  std::shared_ptr<Linear> qkv_, proj_;
};

/// LayerScale (arXiv 2103.17239): a learned factor per channel at the end of a branch, which the seam
/// applies.
class LayerScale : public torch::nn::Module {
 public:
  LayerScale(std::int64_t dim, double init_value);

  at::Tensor gamma;  // [dim]
};

class TransformerBlock : public torch::nn::Module {
 public:
  struct Shape {
    std::int64_t dim = 0, num_heads = 1;
    double mlp_ratio = 4.0;
    double init_values = 0.0;  // LayerScale's; 0: none
  };
  /// name: timm's path of the block, e.g. blocks.3; index: its number over the whole model.
  TransformerBlock(const Shape& shape, const std::string& name, std::int64_t index, ResidualSeam& seam);
  /// [N, L, D] -> [N, L, D]. An x that is moved in and that nobody else has may be overwritten (residual.h).
  at::Tensor forward(at::Tensor x) const;
  /// forward(x)'s first token: [N, L, D] -> [N, 1, D]. Of a block after which nothing reads the others, whose
  /// queries, projection and MLP this leaves out: five sixths of its products.
  at::Tensor forward_class_token(at::Tensor x) const;

 private:
  ResidualSeam& seam_;
  std::int64_t attn_branch_, mlp_branch_;
  std::shared_ptr<LayerNorm> norm1_, norm2_;
  std::shared_ptr<Attention> attn_;
  std::shared_ptr<LayerScale> ls1_, ls2_;
  std::shared_ptr<Mlp> mlp_;
};
using TransformerBlocks = std::vector<std::shared_ptr<TransformerBlock>>;

/// The first token after all of `blocks`, at least one: [N, L, D] -> [N, 1, D].
at::Tensor class_token_after(const TransformerBlocks& blocks, at::Tensor x);

}  // namespace cosub::model
