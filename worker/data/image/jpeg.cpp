#include <fmt/format.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>  // before jpeglib.h, which does not include what it needs

#include <jpeglib.h>

#include <jerror.h>

#include "common/error.h"
#include "worker/data/image/convert.h"
#include "worker/data/image/decode.h"

namespace cosub::data {
namespace {

/// Of a progressive file: each costs time like the whole image and may take ten bytes. Encoders write about
/// ten scans.
constexpr int kMostScans = 500;

/// Where a row begins: on no vector's boundary. To one, libjpeg-turbo writes past the caches, and the row,
/// which is read at once, would come from memory.
constexpr std::int64_t kOffVectors = 1;

/// A decompressor of one file and what its callbacks share with the caller. Never used again: its tables
/// would stand in for those that the next file lacks. Errors leave libjpeg by longjmp: no object with a
/// destructor may begin its life between setjmp and there.
class Decompressor {
 public:
  Decompressor() {
    info_.err = jpeg_std_error(&manager_);
    info_.client_data = this;
    manager_.error_exit = [](j_common_ptr info) {
      auto* self = static_cast<Decompressor*>(info->client_data);
      info->err->format_message(info, self->message_);
      std::longjmp(self->escape_, 1);
    };
    // Warnings are about data that can be decoded somehow: Pillow takes them, but for files that end too
    // early.
    manager_.emit_message = [](j_common_ptr info, int level) {
      auto* self = static_cast<Decompressor*>(info->client_data);
      if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) self->is_cut_short_ = true;
    };
    progress_.progress_monitor = [](j_common_ptr info) {
      auto* self = static_cast<Decompressor*>(info->client_data);
      if (self->info_.input_scan_number <= kMostScans) return;
      const auto end = fmt::format_to_n(self->message_, sizeof self->message_ - 1,
                                        "more than {} scans; only a hostile file has so many", kMostScans);
      *end.out = '\0';
      std::longjmp(self->escape_, 1);
    };
  }
  ~Decompressor() { jpeg_destroy_decompress(&info_); }
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;

  ImageInfo read_header(std::span<const std::uint8_t> bytes) {
    if (!try_read_header(bytes)) throw failure();
    if (is_cut_short_) throw cut_short();
    return {ImageFormat::kJpeg, info_.image_height, info_.image_width, info_.num_components};
  }

  /// After read_header().
  bool is_plain(std::span<const std::uint8_t> bytes) const {
    return !info_.progressive_mode && !info_.arith_code && info_.data_precision == 8 &&
           (info_.jpeg_color_space == JCS_GRAYSCALE || info_.jpeg_color_space == JCS_YCbCr) && has_end(bytes);
  }

  /// After read_header().
  void decode(std::span<const std::uint8_t> bytes, const Region& region, std::int64_t channels, Image& out) {
    if (!has_end(bytes)) throw cut_short();
    const bool is_gray = info_.jpeg_color_space == JCS_GRAYSCALE;
    const bool is_cmyk = info_.jpeg_color_space == JCS_CMYK || info_.jpeg_color_space == JCS_YCCK;
    // Pillow's convert("L") goes by way of RGB.
    info_.out_color_space = is_cmyk ? JCS_CMYK : is_gray ? JCS_GRAYSCALE : JCS_RGB;
    out.reshape(region.height, region.width, channels);
    const std::int64_t row_bytes = std::int64_t{info_.image_width} * 4;
    row_.resize(row_bytes + kOffVectors, boost::container::default_init);
    if (!try_decode(region, out)) throw failure();
    if (is_cut_short_) throw cut_short();
  }

 private:
  bool try_read_header(std::span<const std::uint8_t> bytes) {
    if (setjmp(escape_)) return false;
    jpeg_create_decompress(&info_);
    info_.progress = &progress_;
    jpeg_mem_src(&info_, bytes.data(), bytes.size());
    jpeg_read_header(&info_, TRUE);
    return true;
  }

  /// What a region leaves unread may be missing as well: a whole file has an end marker behind its header.
  /// (Entropy coded data cannot contain one.)
  bool has_end(std::span<const std::uint8_t> bytes) const {
    const std::size_t first = bytes.size() - info_.src->bytes_in_buffer;
    for (std::size_t i = bytes.size(); i >= first + 2; --i) {
      if (bytes[i - 2] == 0xff && bytes[i - 1] == 0xd9) return true;
    }
    return false;
  }

  bool try_decode(const Region& region, Image& out) {
    if (setjmp(escape_)) return false;
    jpeg_start_decompress(&info_);
    // Upsampling of the colours looks at the next block on each side, and where a progressive file lacks
    // scans, the smoothing between its blocks looks two further: then the region's pixels are those of the
    // whole image.
    const std::int64_t margin = (info_.progressive_mode ? 3 : 1) * DCTSIZE;
    const std::int64_t margin_width = info_.max_h_samp_factor * margin;
    const std::int64_t margin_height = info_.max_v_samp_factor * margin;
    JDIMENSION left = static_cast<JDIMENSION>(std::max<std::int64_t>(0, region.left - margin_width));
    const std::int64_t right =
        std::min<std::int64_t>(info_.output_width, region.left + region.width + margin_width);
    JDIMENSION width = static_cast<JDIMENSION>(right - left);
    if (width < info_.output_width) jpeg_crop_scanline(&info_, &left, &width);
    const std::int64_t first = std::max<std::int64_t>(0, region.top - margin_height);
    if (first > 0) jpeg_skip_scanlines(&info_, static_cast<JDIMENSION>(first));
    JSAMPROW row = row_.data() + kOffVectors;
    for (std::int64_t y = first; y < region.top + region.height; ++y) {
      if (jpeg_read_scanlines(&info_, &row, 1) != 1) return false;
      if (y >= region.top)
        take_row(row + (region.left - left) * info_.output_components, out, y - region.top);
    }
    return true;
  }

  void take_row(const std::uint8_t* from, Image& out, std::int64_t y) const {
    if (info_.output_components != 4) {
      convert_row(from, info_.output_components, out.width, out.channels, out.row(y));
      return;
    }
    std::uint8_t* to = out.row(y);
    for (std::int64_t x = 0; x < out.width; ++x, from += 4) {
      std::uint8_t rgb[3];
      // Stored inverted, as Adobe does it and Pillow assumes: 255 - k is the fourth value itself.
      for (int c = 0; c < 3; ++c) {
        const int product = (255 - from[c]) * from[3] + 128;
        const int shaded = from[3] - (((product >> 8) + product) >> 8);
        rgb[c] = static_cast<std::uint8_t>(std::clamp(shaded, 0, 255));
      }
      convert_row(rgb, 3, 1, out.channels, to + x * out.channels);
    }
  }

  DataError failure() const { return DataError(fmt::format("JPEG: {}", message_)); }
  static DataError cut_short() { return DataError("JPEG: the file is cut short"); }

  jpeg_decompress_struct info_{};
  jpeg_error_mgr manager_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf escape_{};
  char message_[JMSG_LENGTH_MAX] = "decoding stopped early";
  bool is_cut_short_ = false;
  ByteBuffer row_;
};

}  // namespace

ImageInfo read_jpeg_info(std::span<const std::uint8_t> bytes) {
  return Decompressor().read_header(bytes);
}

bool is_plain_jpeg(std::span<const std::uint8_t> bytes) {
  try {
    if (read_info(bytes).format != ImageFormat::kJpeg) return false;
    Decompressor decompressor;
    decompressor.read_header(bytes);
    return decompressor.is_plain(bytes);
  } catch (const DataError&) {
    return false;  // what is wrong with it, decode() tells
  }
}

void decode_jpeg(std::span<const std::uint8_t> bytes, const Region& region, std::int64_t channels,
                 Image& out) {
  Decompressor decompressor;
  decompressor.read_header(bytes);
  decompressor.decode(bytes, region, channels, out);
}

}  // namespace cosub::data
