// Vision transformers with a class token: ViT (arXiv 2010.11929), DeiT, DeiT III (arXiv 2204.07118:
// LayerScale, and position embeddings on the patches only). As timm 1.0.31's VisionTransformer with
// global_pool='token'. Two residual branches a block: blocks.I.attn and blocks.I.mlp.
#pragma once

#include "worker/model/model.h"

namespace cosub::model {

/// A named model's row; fields are timm's keyword arguments.
struct VitArch {
  std::int64_t patch_size = 16, embed_dim = 192, depth = 12, num_heads = 3;
  double mlp_ratio = 4.0;
  double init_values = 0.0;     // LayerScale; 0: none
  bool no_embed_class = false;  // true: the class token gets no position embedding
};

const std::map<std::string, VitArch>& vit_table();

std::shared_ptr<Backbone> create_vit(const config::ModelConfig& config, std::uint64_t stream);

}  // namespace cosub::model
