#include "worker/model/transformer_block.h"

#include <utility>

#include "worker/model/device_attention.h"
#include "worker/model/fused_attention.h"
#include "worker/model/linear_node.h"
#include "worker/model/self_attention.h"

namespace cosub::model {
namespace {

at::Tensor factors_of(const std::shared_ptr<LayerScale>& layer) {
  return layer ? layer->gamma : at::Tensor();
}

}  // namespace

Attention::Attention(std::int64_t dim, std::int64_t num_heads) : num_heads_(num_heads) {
  qkv_ = add_layer<Linear>(*this, "qkv", dim, 3 * dim);
  proj_ = add_layer<Linear>(*this, "proj", dim, dim);
}

at::Tensor Attention::forward(const at::Tensor& x) const {
  if (const AttentionBy by = attention_by(x, qkv_->weight, qkv_->bias, num_heads_);
      by != AttentionBy::kLibTorch)
    return proj_->forward(attention_by_kernels(x, qkv_->weight, qkv_->bias, num_heads_, by));
  if (is_linear_for_kernels(x, qkv_->weight, qkv_->bias)) {
    const auto [q, k, v] = project_by_kernels(x, qkv_->weight, qkv_->bias, num_heads_);
    return proj_->forward(fused_attention(q, k, v).transpose(1, 2).flatten(2));
  }
  const std::int64_t rows = x.size(0), length = x.size(1), dim = x.size(2);
  const at::Tensor qkv = qkv_->forward(x).reshape({rows, length, 3, num_heads_, dim / num_heads_});
  return proj_->forward(self_attention(qkv));
}

at::Tensor Attention::forward_class_token(const at::Tensor& x) const {
  const std::int64_t dim = x.size(2);
  // split: the gradients of the parts are written into one tensor; of narrow they would be added up.
  const std::vector<at::Tensor> weight = qkv_->weight.split_with_sizes({dim, 2 * dim}),
                                bias = qkv_->bias.split_with_sizes({dim, 2 * dim});
  const at::Tensor q = linear(x.narrow(1, 0, 1), weight[0], bias[0]);
  const std::vector<at::Tensor> kv = linear(x, weight[1], bias[1]).split(dim, 2);
  return proj_->forward(attention_of_queries(q, kv[0], kv[1], num_heads_));
}

LayerScale::LayerScale(std::int64_t dim, double init_value) {
  gamma = register_parameter("gamma", at::full({dim}, init_value));
}

TransformerBlock::TransformerBlock(const Shape& shape, const std::string& name, std::int64_t index,
                                   ResidualSeam& seam)
    : seam_(seam) {
  const std::int64_t dim = shape.dim;
  const bool has_scale = shape.init_values != 0.0;
  const auto affine = [&](const char* scale, const char* linear) {
    return has_scale ? std::vector<std::string>{name + scale} : weight_and_bias(name + linear);
  };
  attn_branch_ = seam.declare({name + ".attn", index, 0.0, affine(".ls1.gamma", ".attn.proj")});
  mlp_branch_ = seam.declare({name + ".mlp", index, 0.0, affine(".ls2.gamma", ".mlp.fc2")});
  norm1_ = add_layer<LayerNorm>(*this, "norm1", dim);
  attn_ = add_layer<Attention>(*this, "attn", dim, shape.num_heads);
  if (has_scale) ls1_ = add_layer<LayerScale>(*this, "ls1", dim, shape.init_values);
  norm2_ = add_layer<LayerNorm>(*this, "norm2", dim);
  mlp_ = add_layer<Mlp>(*this, "mlp", dim,
                        static_cast<std::int64_t>(static_cast<double>(dim) * shape.mlp_ratio));
  if (has_scale) ls2_ = add_layer<LayerScale>(*this, "ls2", dim, shape.init_values);
}

at::Tensor TransformerBlock::forward(at::Tensor x) const {
  const auto attend = [this](const at::Tensor& normed) { return attn_->forward(normed); };
  const auto expand = [this](const at::Tensor& normed) { return mlp_->forward(normed); };
  at::Tensor attended = seam_.apply(attn_branch_, std::move(x), {attend, factors_of(ls1_), norm1_->norm()});
  return seam_.apply(mlp_branch_, std::move(attended), {expand, factors_of(ls2_), norm2_->norm()});
}

at::Tensor TransformerBlock::forward_class_token(at::Tensor x) const {
  const auto attend = [this](const at::Tensor& normed) { return attn_->forward_class_token(normed); };
  const auto expand = [this](const at::Tensor& normed) { return mlp_->forward(normed); };
  at::Tensor attended =
      seam_.apply_to_first(attn_branch_, std::move(x), {attend, factors_of(ls1_), norm1_->norm()});
  return seam_.apply(mlp_branch_, std::move(attended), {expand, factors_of(ls2_), norm2_->norm()});
}

at::Tensor class_token_after(const TransformerBlocks& blocks, at::Tensor x) {
  for (std::size_t i = 0; i + 1 < blocks.size(); ++i) x = blocks[i]->forward(std::move(x));
  return blocks.back()->forward_class_token(std::move(x));
}

}  // namespace cosub::model
