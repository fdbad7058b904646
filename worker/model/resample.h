// Weights that depend on the image's size, carried over to another one. Values are computed in float32
// whatever the dtype, as timm does.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace cosub::model {

/// Position embeddings [1, prefix_tokens + side^2, D] at another grid: bicubic with antialiasing, the prefix
/// tokens as they are (timm's resample_abs_pos_embed). Whatever is no square grid comes back unchanged.
at::Tensor resample_position_embedding(const at::Tensor& embedding, std::int64_t prefix_tokens,
                                       std::int64_t side);

/// A grid [1, D, H, W] at [1, D, side, side]: bicubic with antialiasing, as F.interpolate.
at::Tensor resample_position_grid(const at::Tensor& grid, std::int64_t side);

/// Swin's table of relative position biases [(2w-1)^2, heads] for another window: linear between source
/// positions that are placed at geometrically growing distances, so that near neighbours keep most of the
/// resolution (the scheme of BEiT's fine-tuning code, which timm's resize_rel_pos_bias_table follows).
/// Whatever is no square table comes back unchanged.
at::Tensor resample_relative_positions(const at::Tensor& table, std::int64_t window_size);

}  // namespace cosub::model
