#include "worker/data/augment.h"

#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/empty.h>
#include <c10/util/ParallelGuard.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "common/error.h"
#include "common/random.h"

namespace cosub::data {

Placement draw_placement(const config::AugmentConfig& augment, std::uint64_t stream, std::int64_t epoch,
                         std::int64_t position) {
  Placement placement;
  if (augment.crop_padding_px > 0) {
    KeyedRandom random(stream, Purpose::kCrop, epoch, position);
    placement.top = static_cast<std::int64_t>(random.uniform_int(2 * augment.crop_padding_px + 1));
    placement.left = static_cast<std::int64_t>(random.uniform_int(2 * augment.crop_padding_px + 1));
  }
  if (augment.flip > 0) {
    KeyedRandom random(stream, Purpose::kFlip, epoch, position);
    placement.flip = random.uniform() < augment.flip;
  }
  return placement;
}

at::Tensor crop_and_flip(const at::Tensor& image, std::int64_t padding_px, const Placement& placement) {
  const std::int64_t channels = image.size(0), height = image.size(1), width = image.size(2);
  at::Tensor result = at::empty({channels, height, width}, at::kByte);
  const std::uint8_t* from = image.const_data_ptr<std::uint8_t>();
  std::uint8_t* to = result.mutable_data_ptr<std::uint8_t>();
  // Column x of the window is column x + shift_x of the image; [begin, end) are those that lie inside it.
  const std::int64_t shift_y = placement.top - padding_px, shift_x = placement.left - padding_px;
  const std::int64_t begin = std::clamp<std::int64_t>(-shift_x, 0, width);
  const std::int64_t end = std::clamp<std::int64_t>(width - shift_x, begin, width);
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t y = 0; y < height; ++y) {
      std::uint8_t* row = to + (c * height + y) * width;
      const std::int64_t source_y = y + shift_y;
      if (source_y < 0 || source_y >= height) {
        std::memset(row, 0, width);
        continue;
      }
      std::memset(row, 0, begin);
      std::memcpy(row + begin, from + (c * height + source_y) * width + begin + shift_x, end - begin);
      std::memset(row + end, 0, width - end);
      if (placement.flip) std::reverse(row, row + width);
    }
  }
  return result;
}

at::Tensor resize(const at::Tensor& image, std::int64_t size_px) {
  if (image.size(1) == size_px && image.size(2) == size_px) return image;
  // One image at a time, so that its bits do not depend on the batch it is in; on this thread alone, because
  // the loader's threads are the parallelism here.
  const c10::ParallelGuard this_thread_only(true);
  return at::_upsample_bilinear2d_aa(image.unsqueeze(0), {size_px, size_px}, false).squeeze(0).contiguous();
}

Normalizer::Normalizer(const config::DataConfig& data, std::int64_t channels) : tables_(channels) {
  const auto values = [&](const std::vector<double>& given, const char* key) {
    if (given.empty()) return std::vector<double>(channels, 0.5);
    if (static_cast<std::int64_t>(given.size()) != channels) {
      throw ConfigError(fmt::format("data.{}: {} values found; the images have {} channels, so {} are needed",
                                    key, given.size(), channels, channels));
    }
    return given;
  };
  const std::vector<double> mean = values(data.mean, "mean"), std = values(data.std, "std");
  for (std::int64_t c = 0; c < channels; ++c) {
    if (!(std[c] > 0)) throw ConfigError(fmt::format("data.std: {} found; it must be above 0", std[c]));
    for (int pixel = 0; pixel < 256; ++pixel) {
      tables_[c][pixel] =
          (static_cast<float>(pixel) / 255.0f - static_cast<float>(mean[c])) / static_cast<float>(std[c]);
    }
  }
}

void Normalizer::apply(const at::Tensor& image, float* out) const {
  const std::uint8_t* pixel = image.const_data_ptr<std::uint8_t>();
  const std::int64_t area = image.size(1) * image.size(2);
  for (const auto& table : tables_) {
    for (std::int64_t i = 0; i < area; ++i) *out++ = table[*pixel++];
  }
}

}  // namespace cosub::data
