// The architecture families. Each stands in one file, FAMILY.cpp: a table of named rows, and the model that
// such a row describes. docs/models.md says how to add one. Names, parameters and numerics are those of
// timm 1.0.31's classes.
#pragma once

#include <functional>

#include "worker/model/model.h"

namespace cosub::model {

struct Family {
  std::string name;    // "ViT"
  std::string source;  // where the architecture was published
  config::DropRateRule drop_rate_rule = config::DropRateRule::kUniform;  // where the config says none
  std::vector<std::string> models;
  std::function<std::shared_ptr<Backbone>(const config::ModelConfig&)> create;  // without initial weights
};

/// Vision transformers with a class token: ViT, DeiT, DeiT III (LayerScale, no position embedding on the
/// class token). Two branches a block: blocks.I.attn, blocks.I.mlp.
Family vit_family();

/// Residual networks with the stride on the 3x3 convolution, basic and bottleneck blocks, plain and deep
/// stems. One branch a block: layerS.I. The projecting shortcut and the ReLU after the addition run on all
/// rows.
Family resnet_family();

/// RegNetY: bottlenecks with grouped convolutions and squeeze-and-excitation; widths and depths from the
/// published linear rule. One branch a block: sS.bI, with shortcut and ReLU as in ResNet.
Family regnet_family();

/// Pooling-based vision transformers: three stages with strided pooling between. Two branches a block:
/// transformers.S.blocks.I.attn and .mlp.
Family pit_family();

/// Cross-covariance transformers with class attention. Three branches a block: blocks.I.attn, .local_mp,
/// .mlp; the class attention blocks (cls_attn_blocks.I.attn and .mlp) never drop, as in the published recipe.
Family xcit_family();

/// Swin: windowed attention, every second block shifted, four stages. Two branches a block:
/// layers.S.blocks.I.attn and .mlp. Images that are no multiple of the windows are padded.
Family swin_family();

/// ConvNeXt: depthwise 7x7 convolution and MLP. One branch a block: stages.S.blocks.I.
Family convnext_family();

const std::vector<Family>& families();

/// The family that has this model; ConfigError with the nearest name otherwise.
const Family& family_of(const std::string& model_name);

}  // namespace cosub::model
