#include "worker/data/resize.h"

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/ParallelGuard.h>
#include <fmt/format.h>

#include <cstring>

#include "common/error.h"
#include "worker/data/image/decode.h"

namespace cosub::data {
namespace {

/// [1, C, H, W] over the interleaved pixels, without a copy.
at::Tensor view(Image& image) {
  const std::int64_t channels = image.channels, row = image.row_bytes();
  return at::from_blob(image.pixels.data(), {1, channels, image.height, image.width},
                       {image.height * row, 1, row, channels}, at::kByte);
}

/// Whether Pillow 13 resizes the columns before the rows, where its predecessors and LibTorch do the rows
/// first: found by what it gives for images of two values, whose overshoot is cut off between the two.
bool is_vertical_first(const Image& image, std::int64_t height, std::int64_t width) {
  return image.height > height && image.height - height > 2 * (image.width - width);
}

void resize_by_kernel(const Image& image, std::int64_t height, std::int64_t width,
                      config::Interpolation interpolation, Image& out) {
  out.reshape(height, width, image.channels);
  const at::Tensor from = view(const_cast<Image&>(image));  // only read
  at::Tensor to = view(out);
  if (interpolation == config::Interpolation::kBicubic) {
    at::_upsample_bicubic2d_aa_out(to, from, {height, width}, /*align_corners=*/false);
  } else {
    at::_upsample_bilinear2d_aa_out(to, from, {height, width}, /*align_corners=*/false);
  }
}

}  // namespace

void resize(const Image& image, std::int64_t height, std::int64_t width, config::Interpolation interpolation,
            Image& out) {
  if (image.height == height && image.width == width) {
    out.reshape(height, width, image.channels);
    std::memcpy(out.pixels.data(), image.pixels.data(), height * image.row_bytes());
    return;
  }
  // One image at a time, so that its bits do not depend on the batch it is in; on this thread alone, because
  // the loader's threads are the parallelism here.
  const c10::ParallelGuard this_thread_only(true);
  if (image.width == width || !is_vertical_first(image, height, width))
    return resize_by_kernel(image, height, width, interpolation, out);
  thread_local Image columns;  // kept for the next image
  resize_by_kernel(image, height, image.width, interpolation, columns);
  resize_by_kernel(columns, height, width, interpolation, out);
}

void resize_shorter(const Image& image, std::int64_t shorter, config::Interpolation interpolation,
                    Image& out) {
  const bool tall = image.height > image.width;
  const std::int64_t longer =
      shorter * (tall ? image.height : image.width) / (tall ? image.width : image.height);
  if (longer > kMaxPixels / shorter) {
    throw DataError(fmt::format(
        "{} x {} pixels would become {} x {} with the shorter side resized to {}; at most {} are made",
        image.width, image.height, tall ? shorter : longer, tall ? longer : shorter, shorter, kMaxPixels));
  }
  resize(image, tall ? longer : shorter, tall ? shorter : longer, interpolation, out);
}

}  // namespace cosub::data
