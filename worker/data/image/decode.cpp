#include "worker/data/image/decode.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <string_view>

#include "common/error.h"

namespace cosub::data {
namespace {

constexpr std::string_view kJpegStart = "\xff\xd8", kPngStart = "\x89PNG";

bool begins_with(std::span<const std::uint8_t> bytes, std::string_view text) {
  return bytes.size() >= text.size() &&
         std::equal(text.begin(), text.end(), bytes.begin(),
                    [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; });
}

ImageFormat format_of(std::span<const std::uint8_t> bytes) {
  if (bytes.empty()) throw DataError("the file is empty");
  if (begins_with(bytes, kJpegStart)) return ImageFormat::kJpeg;
  if (begins_with(bytes, kPngStart)) return ImageFormat::kPng;
  if (begins_with(bytes, "P5") || begins_with(bytes, "P6")) return ImageFormat::kPnm;
  throw DataError(fmt::format("not a JPEG, PNG, PPM or PGM image: it is {}", looks_like(bytes)));
}

}  // namespace

std::string looks_like(std::span<const std::uint8_t> bytes) {
  if (bytes.empty()) return "an empty file";
  if (begins_with(bytes, kJpegStart)) return "a JPEG";
  if (begins_with(bytes, kPngStart)) return "a PNG";
  if (begins_with(bytes, "P5") || begins_with(bytes, "P6")) return "a PPM or PGM";
  if (begins_with(bytes, "GIF8")) return "a GIF";
  if (begins_with(bytes, "RIFF")) return "WebP or another RIFF file";
  if (begins_with(bytes, "BM")) return "a BMP";
  if (begins_with(bytes, "II*") || begins_with(bytes, "MM")) return "a TIFF";
  if (begins_with(bytes, "version https://git-lfs")) return "a Git LFS pointer: fetch the files themselves";
  if (begins_with(bytes, "<")) return "HTML or XML, perhaps an error page saved as an image";
  if (begins_with(bytes, "\x1f\x8b")) return "gzip-compressed";
  const std::span<const std::uint8_t> start = bytes.first(std::min<std::size_t>(8, bytes.size()));
  std::string text = "unknown data beginning with";
  for (const std::uint8_t byte : start) text += fmt::format(" {:02x}", byte);
  return text;
}

ImageInfo read_info(std::span<const std::uint8_t> bytes) {
  ImageInfo info;
  switch (format_of(bytes)) {
    case ImageFormat::kJpeg:
      info = read_jpeg_info(bytes);
      break;
    case ImageFormat::kPng:
      info = read_png_info(bytes);
      break;
    case ImageFormat::kPnm:
      info = read_pnm_info(bytes);
      break;
  }
  if (info.height < 1 || info.width < 1) {
    throw DataError(fmt::format("the header announces {} x {} pixels", info.width, info.height));
  }
  if (info.height > kMaxPixels / info.width) {
    throw DataError(fmt::format("the header announces {} x {} pixels; at most {} are decoded", info.width,
                                info.height, kMaxPixels));
  }
  if (std::max(info.height, info.width) > kMaxSide) {
    throw DataError(fmt::format("the header announces {} x {} pixels; a side has at most {}", info.width,
                                info.height, kMaxSide));
  }
  return info;
}

void decode(std::span<const std::uint8_t> bytes, const Region& region, std::int64_t channels, Image& out) {
  const ImageInfo info = read_info(bytes);
  if (region.top < 0 || region.left < 0 || region.height < 1 || region.width < 1 ||
      region.top + region.height > info.height || region.left + region.width > info.width) {
    throw std::logic_error("decode: the region is not inside the image");
  }
  switch (info.format) {
    case ImageFormat::kJpeg:
      return decode_jpeg(bytes, region, channels, out);
    case ImageFormat::kPng:
      return decode_png(bytes, region, channels, out);
    case ImageFormat::kPnm:
      return decode_pnm(bytes, region, channels, out);
  }
}

}  // namespace cosub::data
