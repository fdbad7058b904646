#include "worker/data/image/png_reader.h"

#include <fmt/format.h>

#include <cstring>

#include "common/error.h"

// Errors leave libpng by longjmp: no object with a destructor may begin its life between setjmp and there,
// which is why each try_...() is a function of its own.
namespace cosub::data {

PngReader::PngReader(std::span<const std::uint8_t> bytes) : bytes_(bytes) {
  png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, fail, [](png_structp, png_const_charp) {});
  if (png_ != nullptr) info_ = png_create_info_struct(png_);
  const bool has_memory = info_ != nullptr;
  if (has_memory && try_read_header()) return;
  png_destroy_read_struct(&png_, &info_, nullptr);  // the destructor of what was not constructed will not
  throw DataError(has_memory ? fmt::format("PNG: {}", message_) : "PNG: no memory for the decoder");
}

PngPixels PngReader::read_pixels(SetUp set_up) {
  PngPixels pixels;
  if (!try_set_up(set_up)) throw DataError(fmt::format("PNG: {}", message_));
  pixels.channels = png_get_channels(png_, info_);
  pixels.row_bytes = static_cast<std::int64_t>(png_get_rowbytes(png_, info_));
  pixels.bytes.resize(height() * pixels.row_bytes, boost::container::default_init);
  if (!try_read_rows(pixels)) throw DataError(fmt::format("PNG: {}", message_));
  return pixels;
}

void PngReader::take_bytes(png_structp png, png_bytep out, std::size_t count) {
  auto& self = *static_cast<PngReader*>(png_get_io_ptr(png));
  if (count > self.bytes_.size() - self.at_) png_error(png, "the file is cut short");
  std::memcpy(out, self.bytes_.data() + self.at_, count);
  self.at_ += count;
}

void PngReader::fail(png_structp png, png_const_charp message) {
  auto& self = *static_cast<PngReader*>(png_get_error_ptr(png));
  std::strncpy(self.message_, message, sizeof self.message_ - 1);
  png_longjmp(png, 1);
}

bool PngReader::try_read_header() {
  if (setjmp(png_jmpbuf(png_))) return false;
  png_set_read_fn(png_, this, take_bytes);
  png_set_user_limits(png_, 0x7fffffff, 0x7fffffff);
  // Text, colour profiles and the like change no pixel here, and each may inflate to megabytes that are kept.
  png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
  png_read_info(png_, info_);
  return true;
}

bool PngReader::try_set_up(SetUp set_up) {
  if (setjmp(png_jmpbuf(png_))) return false;
  set_up(png_);
  passes_ = png_set_interlace_handling(png_);
  png_read_update_info(png_, info_);
  return true;
}

bool PngReader::try_read_rows(PngPixels& pixels) {
  if (setjmp(png_jmpbuf(png_))) return false;
  const std::int64_t rows = height();
  for (int pass = 0; pass < passes_; ++pass) {
    for (std::int64_t y = 0; y < rows; ++y) {
      png_read_row(png_, pixels.bytes.data() + y * pixels.row_bytes, nullptr);
    }
  }
  png_read_end(png_, nullptr);
  return true;
}

}  // namespace cosub::data
