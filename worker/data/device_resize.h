// Anti-aliased resizing of decoded pixels where they lie, asynchronously on a GPU. Pure functions.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "common/config/pipeline.h"

namespace cosub::data {

/// [height, width, C] uint8 -> `row`, [S, S, C] uint8 on the same device, mirrored where `flip`. Computed in
/// float and rounded once, where resize() of resize.h rounds weights, and pixels between its two passes: the
/// two differ by a level here and there. Pixels of that size already are copied.
void resize_on_device(const at::Tensor& pixels, config::Interpolation interpolation, bool flip,
                      at::Tensor row);

/// Whether a GPU should do it: LibTorch's kernel keeps a row of weights in shared memory, and a large picture
/// takes memory that training has a use for.
bool can_resize_on_device(std::int64_t height, std::int64_t width, std::int64_t size);

}  // namespace cosub::data
