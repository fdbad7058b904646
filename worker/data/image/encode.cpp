#include "worker/data/image/encode.h"

#include <fmt/format.h>
#include <png.h>

#include <csetjmp>
#include <cstdio>  // before jpeglib.h, which does not include what it needs
#include <cstdlib>
#include <iterator>

#include <jpeglib.h>

#include "common/error.h"

namespace cosub::data {
namespace {

/// A compressor and what its callbacks share with the caller. Errors leave libjpeg by longjmp: no object with
/// a destructor may begin its life between setjmp and there.
class Compressor {
 public:
  Compressor() {
    info_.err = jpeg_std_error(&manager_);
    info_.client_data = this;
    manager_.error_exit = [](j_common_ptr info) {
      auto* self = static_cast<Compressor*>(info->client_data);
      info->err->format_message(info, self->message_);
      std::longjmp(self->escape_, 1);
    };
    jpeg_create_compress(&info_);
  }
  ~Compressor() {
    jpeg_destroy_compress(&info_);
    std::free(bytes_);
  }
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;

  std::vector<std::uint8_t> encode(const Image& image, const JpegOptions& options) {
    if (!try_encode(image, options)) throw DataError(fmt::format("JPEG: {}", message_));
    return {bytes_, bytes_ + size_};
  }

 private:
  bool try_encode(const Image& image, const JpegOptions& options) {
    if (setjmp(escape_)) return false;
    jpeg_mem_dest(&info_, &bytes_, &size_);
    info_.image_width = static_cast<JDIMENSION>(image.width);
    info_.image_height = static_cast<JDIMENSION>(image.height);
    info_.input_components = static_cast<int>(image.channels);
    info_.in_color_space = image.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&info_);
    jpeg_set_quality(&info_, options.quality, TRUE);
    if (image.channels == 3) {
      info_.comp_info[0].h_samp_factor = options.subsampling == Subsampling::k444 ? 1 : 2;
      info_.comp_info[0].v_samp_factor = options.subsampling == Subsampling::k420 ? 2 : 1;
    }
    info_.optimize_coding = TRUE;
    info_.restart_in_rows = options.restart_rows;
    if (options.progressive) jpeg_simple_progression(&info_);
    jpeg_start_compress(&info_, TRUE);
    for (std::int64_t y = 0; y < image.height; ++y) {
      auto* row = const_cast<JSAMPROW>(image.row(y));
      jpeg_write_scanlines(&info_, &row, 1);
    }
    jpeg_finish_compress(&info_);
    return true;
  }

  jpeg_compress_struct info_{};
  jpeg_error_mgr manager_{};
  std::jmp_buf escape_{};
  char message_[JMSG_LENGTH_MAX] = {};
  unsigned char* bytes_ = nullptr;
  unsigned long size_ = 0;
};

}  // namespace

std::vector<std::uint8_t> encode_jpeg(const Image& image, const JpegOptions& options) {
  return Compressor().encode(image, options);
}

std::vector<std::uint8_t> encode_png(const Image& image) {
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(image.width);
  header.height = static_cast<png_uint_32>(image.height);
  header.format = image.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  std::vector<std::uint8_t> bytes(PNG_IMAGE_PNG_SIZE_MAX(header));
  png_alloc_size_t size = bytes.size();
  if (!png_image_write_to_memory(&header, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr)) {
    throw DataError(fmt::format("PNG: {}", header.message));
  }
  bytes.resize(size);
  return bytes;
}

std::vector<std::uint8_t> encode_pnm(const Image& image) {
  std::vector<std::uint8_t> bytes;
  bytes.reserve(32 + image.height * image.row_bytes());
  fmt::format_to(std::back_inserter(bytes), "P{}\n{} {}\n255\n", image.channels == 1 ? 5 : 6, image.width,
                 image.height);
  bytes.insert(bytes.end(), image.row(0), image.row(image.height));
  return bytes;
}

}  // namespace cosub::data
