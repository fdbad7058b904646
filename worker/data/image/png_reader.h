// libpng behind exceptions: one PNG file in memory, its header first, then all of its pixels. For the
// decoders of this folder; used by the thread that made it.
#pragma once

#include <png.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "worker/data/image/image.h"

namespace cosub::data {

/// Rows one behind the other, as libpng hands them out (16-bit samples: the high byte first).
struct PngPixels {
  std::int64_t channels = 0, row_bytes = 0;
  ByteBuffer bytes;  // [height, row_bytes]

  const std::uint8_t* row(std::int64_t y) const { return bytes.data() + y * row_bytes; }
};

class PngReader {
 public:
  /// Reads the header of `bytes`, which must outlive the reader. DataError, as from read_pixels(), when what
  /// is read is damaged or cut short. How many pixels are too many is read_info()'s business.
  explicit PngReader(std::span<const std::uint8_t> bytes);
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  std::int64_t height() const { return png_get_image_height(png_, info_); }
  std::int64_t width() const { return png_get_image_width(png_, info_); }
  // As stored, before read_pixels().
  int color_type() const { return png_get_color_type(png_, info_); }  // PNG_COLOR_TYPE_...
  int channels() const { return png_get_channels(png_, info_); }
  int bit_depth() const { return png_get_bit_depth(png_, info_); }  // of a sample, or of a palette's index

  /// Asks libpng for transformations. Errors leave it by longjmp: it holds no object with a destructor.
  using SetUp = void (*)(png_structp png);

  /// The pixels after those transformations; the file is read, and checked, to its end. Call it once.
  PngPixels read_pixels(SetUp set_up);

 private:
  static void take_bytes(png_structp png, png_bytep out, std::size_t count);
  static void fail(png_structp png, png_const_charp message);
  bool try_read_header();
  bool try_set_up(SetUp set_up);
  bool try_read_rows(PngPixels& pixels);

  std::span<const std::uint8_t> bytes_;
  std::size_t at_ = 0;
  int passes_ = 1;  // more than one where the file is interlaced
  char message_[128] = {};
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

}  // namespace cosub::data
