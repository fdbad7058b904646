#include <fmt/format.h>
#include <png.h>

#include <cstring>
#include <vector>

#include "common/error.h"
#include "worker/data/image/convert.h"
#include "worker/data/image/decode.h"

namespace cosub::data {
namespace {

/// What libpng's callbacks share with their caller. Errors leave libpng by longjmp: no object with a
/// destructor may begin its life between setjmp and there.
struct Session {
  std::span<const std::uint8_t> bytes;
  std::size_t at = 0;
  char message[128] = {};
  png_structp png = nullptr;
  png_infop info = nullptr;
  ~Session() { png_destroy_read_struct(&png, &info, nullptr); }
};

void take_bytes(png_structp png, png_bytep out, std::size_t count) {
  auto& session = *static_cast<Session*>(png_get_io_ptr(png));
  if (count > session.bytes.size() - session.at) png_error(png, "the file is cut short");
  std::memcpy(out, session.bytes.data() + session.at, count);
  session.at += count;
}

void fail(png_structp png, png_const_charp message) {
  auto& session = *static_cast<Session*>(png_get_error_ptr(png));
  std::strncpy(session.message, message, sizeof session.message - 1);
  png_longjmp(png, 1);
}

void open(Session& session) {
  session.png =
      png_create_read_struct(PNG_LIBPNG_VER_STRING, &session, fail, [](png_structp, png_const_charp) {});
  if (session.png != nullptr) session.info = png_create_info_struct(session.png);
  if (session.info == nullptr) throw DataError("PNG: no memory for the decoder");
  png_set_read_fn(session.png, &session, take_bytes);
  png_set_user_limits(session.png, 0x7fffffff, 0x7fffffff);  // read_info() has the limit
}

bool read_header(Session& session) {
  if (setjmp(png_jmpbuf(session.png))) return false;
  // Text, colour profiles and the like change no pixel here, and each may inflate to megabytes that are kept.
  png_set_keep_unknown_chunks(session.png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
  png_read_info(session.png, session.info);
  return true;
}

/// Everything to 8-bit grey or RGB without alpha; gamma is left alone, as Pillow leaves it.
bool read_pixels(Session& session, std::vector<png_bytep>& rows) {
  if (setjmp(png_jmpbuf(session.png))) return false;
  png_read_image(session.png, rows.data());
  png_read_end(session.png, nullptr);
  return true;
}

bool set_up(Session& session) {
  if (setjmp(png_jmpbuf(session.png))) return false;
  png_set_expand(session.png);
  png_set_strip_16(session.png);
  png_set_strip_alpha(session.png);
  png_set_interlace_handling(session.png);
  png_read_update_info(session.png, session.info);
  return true;
}

DataError failure(const Session& session) {
  return DataError(fmt::format("PNG: {}", session.message));
}

}  // namespace

ImageInfo read_png_info(std::span<const std::uint8_t> bytes) {
  Session session{.bytes = bytes};
  open(session);
  if (!read_header(session)) throw failure(session);
  const bool is_palette = png_get_color_type(session.png, session.info) == PNG_COLOR_TYPE_PALETTE;
  return {ImageFormat::kPng, png_get_image_height(session.png, session.info),
          png_get_image_width(session.png, session.info),
          is_palette ? 3 : png_get_channels(session.png, session.info)};
}

void decode_png(std::span<const std::uint8_t> bytes, const Region& region, std::int64_t channels,
                Image& out) {
  Session session{.bytes = bytes};
  open(session);
  if (!read_header(session) || !set_up(session)) throw failure(session);
  Image whole;
  whole.reshape(png_get_image_height(session.png, session.info),
                png_get_image_width(session.png, session.info), png_get_channels(session.png, session.info));
  std::vector<png_bytep> rows(whole.height);
  for (std::int64_t y = 0; y < whole.height; ++y) rows[y] = whole.row(y);
  if (!read_pixels(session, rows)) throw failure(session);
  out.reshape(region.height, region.width, channels);
  for (std::int64_t y = 0; y < region.height; ++y) {
    convert_row(whole.row(region.top + y) + region.left * whole.channels, whole.channels, region.width,
                channels, out.row(y));
  }
}

}  // namespace cosub::data
