// Residual networks (arXiv 1512.03385, with the stride on the 3x3 convolution), as timm 1.0.31's ResNet:
// basic and bottleneck blocks, plain and deep stems. One residual branch a block: layerS.I. The projecting
// shortcut and the ReLU after the addition run on all rows. Activations are channels_last inside (parameters
// stay NCHW).
#pragma once

#include "worker/model/model.h"

namespace cosub::model {

/// A named model's row; fields are timm's keyword arguments.
struct ResNetArch {
  bool bottleneck = false;
  std::vector<std::int64_t> layers;  // blocks of each of the four stages
  std::vector<std::int64_t> channels = {64, 128, 256, 512};
  std::string stem_type = {};    // "" (7x7, 64 wide), deep, deep_tiered (three 3x3)
  std::int64_t stem_width = 64;  // of deep stems, which end twice as wide
};

const std::map<std::string, ResNetArch>& resnet_table();

std::shared_ptr<Backbone> create_resnet(const config::ModelConfig& config, std::uint64_t stream);

}  // namespace cosub::model
