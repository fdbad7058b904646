#include "worker/data/device_resize.h"

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <c10/util/ParallelGuard.h>

#include <algorithm>
#include <vector>

namespace cosub::data {
namespace {

// Well below what 48 KiB of shared memory allow (about 90 with bicubic weights); a crop of that size takes
// some 200 MB in float.
constexpr std::int64_t kLargestReduction = 16;

}  // namespace

void resize_on_device(const at::Tensor& pixels, config::Interpolation interpolation, bool flip,
                      at::Tensor row) {
  // On a CPU (the twin) the loader's threads are the parallelism, as in resize().
  const c10::ParallelGuard this_thread_only(true);
  at::Tensor resized = pixels;
  if (pixels.size(0) != row.size(0) || pixels.size(1) != row.size(1)) {
    const at::Tensor from =
        pixels.permute({2, 0, 1}).unsqueeze(0).to(at::kFloat, false, true, at::MemoryFormat::Contiguous);
    const std::vector<std::int64_t> size = {row.size(0), row.size(1)};
    const at::Tensor to = interpolation == config::Interpolation::kBicubic
                              ? at::_upsample_bicubic2d_aa(from, size, /*align_corners=*/false)
                              : at::_upsample_bilinear2d_aa(from, size, /*align_corners=*/false);
    resized = to.squeeze(0).permute({1, 2, 0}).add(0.5).floor_().clamp_(0, 255);
  }
  row.copy_(flip ? resized.flip(1) : resized);
}

bool can_resize_on_device(std::int64_t height, std::int64_t width, std::int64_t size) {
  return std::max(height, width) <= kLargestReduction * size;
}

}  // namespace cosub::data
