// A named submodel as a model of its own: the same architecture with fewer blocks, its weights copied.
#pragma once

#include "worker/model/model.h"

namespace cosub::model {

/// The model that consists of the blocks that `keep` (by block) keeps; its logits are those of the submodel.
/// Where `block_scale` (by block; empty: 1) is not 1 it is folded into the last affine map of each branch.
/// ConfigError naming the block where the architecture does not allow it: a family whose depth is not free, a
/// stage left empty, a dropped block whose shortcut changes the shape, or blocks that differ by their place
/// (Swin's shift).
std::shared_ptr<Backbone> trim(Backbone& backbone, const std::vector<bool>& keep,
                               const std::vector<double>& block_scale);

}  // namespace cosub::model
