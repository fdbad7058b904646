#include "worker/data/pack_image.h"

#include <algorithm>

#include "common/random.h"
#include "worker/data/image/decode.h"
#include "worker/data/image/encode.h"
#include "worker/data/resize.h"

namespace cosub::data {
namespace {

/// Kept by each thread for its next image.
struct Buffers {
  ByteBuffer stored;
  Image decoded, resized;
};

bool is_drawn_as_pixels(std::int64_t index, const PackOptions& options) {
  KeyedRandom random(stream_seed(options.seed, "data pack"), Purpose::kPack, 0,
                     static_cast<std::uint64_t>(index));
  return random.uniform() < options.raw_share;
}

const char* extension_of(const ImageInfo& info) {
  switch (info.format) {
    case ImageFormat::kJpeg:
      return "jpg";
    case ImageFormat::kPng:
      return "png";
    case ImageFormat::kPnm:
      break;
  }
  return info.channels == 1 ? "pgm" : "ppm";
}

PackedImage pack(const StoredImage& stored, bool as_pixels, const PackOptions& options, Buffers& buffers) {
  ImageInfo info;
  if (stored.pixels) {
    info = {ImageFormat::kPnm, stored.pixels->height, stored.pixels->width,
            static_cast<int>(stored.pixels->channels)};
  } else {
    info = read_info(stored.bytes);
  }
  const Image* image = &buffers.decoded;
  decode(stored, {0, 0, info.height, info.width}, info.decoded_channels(), buffers.decoded);
  const bool is_larger = options.shorter_px > 0 && std::min(info.height, info.width) > options.shorter_px;
  if (is_larger) {
    resize_shorter(*image, options.shorter_px, config::Interpolation::kBicubic, buffers.resized);
    image = &buffers.resized;
  }
  const bool was_pixels = info.format == ImageFormat::kPnm;
  if (!is_larger && !stored.pixels && (was_pixels || !as_pixels)) {
    return {extension_of(info), {stored.bytes.begin(), stored.bytes.end()}, StoredAs::kItIs};
  }
  if (was_pixels || as_pixels) {
    return {image->channels == 1 ? "pgm" : "ppm", encode_pnm(*image), StoredAs::kPixels};
  }
  return {"jpg", encode_jpeg(*image, {.quality = options.quality}), StoredAs::kReencoded};
}

}  // namespace

PackedImage pack_image(const Source& source, std::int64_t index, const PackOptions& options) {
  thread_local Buffers buffers;
  const StoredImage stored = source.read(index, buffers.stored);
  PackedImage packed;
  naming(source, index, [&] { packed = pack(stored, is_drawn_as_pixels(index, options), options, buffers); });
  return packed;
}

}  // namespace cosub::data
