// Every kind of PNG that can hold class numbers gives them back as they were written; other files are named
// for what they are.
#include "worker/data/image/mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <png.h>
#include <zlib.h>

#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "tests/worker/data/image/images.h"
#include "worker/data/image/decode.h"
#include "worker/data/image/encode.h"

namespace cosub::data {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Bytes = std::vector<std::uint8_t>;

struct PngKind {
  int color_type = PNG_COLOR_TYPE_GRAY;
  int bit_depth = 8;
  bool interlaced = false;
  int palette_size = 256;    // at most 2^bit_depth are written
  bool transparent = false;  // value 0, by a tRNS chunk
  double gamma = 0;          // by a gAMA chunk; 0: none
};

/// Of a row: samples of up to 8 bits packed as PNG packs them, 16-bit ones with the high byte first.
std::vector<std::uint8_t> pack_row(const std::uint16_t* samples, std::int64_t count, int bit_depth) {
  std::vector<std::uint8_t> row((count * bit_depth + 7) / 8);
  for (std::int64_t i = 0; i < count; ++i) {
    if (bit_depth == 16) {
      row[2 * i] = static_cast<std::uint8_t>(samples[i] >> 8);
      row[2 * i + 1] = static_cast<std::uint8_t>(samples[i]);
    } else {
      const std::int64_t bit = i * bit_depth;
      row[bit / 8] |= static_cast<std::uint8_t>(samples[i] << (8 - bit_depth - bit % 8));
    }
  }
  return row;
}

/// `samples`: [height, width, channels of the colour type]. An error of libpng's aborts the test.
Bytes write_png(const PngKind& kind, std::int64_t height, std::int64_t width,
                const std::vector<std::uint16_t>& samples) {
  Bytes bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &bytes,
      [](png_structp writer, png_bytep data, std::size_t size) {
        auto& out = *static_cast<Bytes*>(png_get_io_ptr(writer));
        out.insert(out.end(), data, data + size);
      },
      nullptr);
  png_set_IHDR(png, info, width, height, kind.bit_depth, kind.color_type,
               kind.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  if (kind.color_type == PNG_COLOR_TYPE_PALETTE) {  // colours that say nothing about their index
    std::vector<png_color> palette(std::min(kind.palette_size, 1 << kind.bit_depth), {9, 200, 77});
    png_set_PLTE(png, info, palette.data(), static_cast<int>(palette.size()));
  }
  png_byte alpha = 0;
  png_color_16 grey{};
  if (kind.transparent) png_set_tRNS(png, info, &alpha, 1, &grey);
  if (kind.gamma > 0) png_set_gAMA(png, info, kind.gamma);
  png_set_check_for_invalid_index(png, 0);
  png_write_info(png, info);
  const std::int64_t channels = png_get_channels(png, info);
  std::vector<Bytes> rows;
  std::vector<png_bytep> row_pointers;
  for (std::int64_t y = 0; y < height; ++y) {
    rows.push_back(pack_row(samples.data() + y * width * channels, width * channels, kind.bit_depth));
  }
  for (Bytes& row : rows) row_pointers.push_back(row.data());
  png_write_image(png, row_pointers.data());
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  return bytes;
}

/// All values that so many bits can hold occur, in no order that a wrong row length would leave in place.
std::vector<std::uint16_t> draw_values(std::int64_t count, int bit_depth) {
  KeyedRandom random(3, Purpose::kTest, bit_depth, 0);
  std::vector<std::uint16_t> values(count);
  for (std::uint16_t& value : values) value = static_cast<std::uint16_t>(random.uniform_int(1 << bit_depth));
  return values;
}

std::vector<std::uint16_t> values_of(const Mask& mask) {
  return {mask.values.begin(), mask.values.begin() + mask.size()};
}

std::string mask_error(const Bytes& bytes) {
  try {
    Mask mask;
    decode_mask(bytes, mask);
  } catch (const DataError& error) {
    return error.what();
  }
  return "no DataError";
}

/// One Mask serves all, so that what another left behind would show.
void expect_values_come_back(const PngKind& kind, Mask& mask) {
  for (const auto& [height, width] : std::vector<std::pair<int, int>>{{1, 1}, {5, 13}, {64, 50}, {3, 8}}) {
    SCOPED_TRACE(::testing::Message()
                 << "colour type " << kind.color_type << ", " << kind.bit_depth << " bits, " << height
                 << " x " << width << (kind.interlaced ? ", interlaced" : ""));
    const std::vector<std::uint16_t> values = draw_values(height * width, kind.bit_depth);
    decode_mask(write_png(kind, height, width, values), mask);
    EXPECT_EQ(mask.height, height);
    EXPECT_EQ(mask.width, width);
    EXPECT_EQ(values_of(mask), values);
  }
}

TEST(DecodeMask, GreyscaleOfEveryDepthGivesItsSamplesUnscaled) {
  Mask mask;
  for (const int bit_depth : {1, 2, 4, 8, 16}) {
    for (const bool interlaced : {false, true}) {
      expect_values_come_back({.bit_depth = bit_depth, .interlaced = interlaced}, mask);
    }
  }
}

TEST(DecodeMask, PalettesGiveIndicesNotColours) {
  Mask mask;
  for (const int bit_depth : {1, 2, 4, 8}) {
    for (const bool interlaced : {false, true}) {
      expect_values_come_back(
          {.color_type = PNG_COLOR_TYPE_PALETTE, .bit_depth = bit_depth, .interlaced = interlaced}, mask);
    }
  }
}

TEST(DecodeMask, TransparencyAndGammaChangeNothing) {
  Mask mask;
  for (const int color_type : {PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_PALETTE}) {
    expect_values_come_back({.color_type = color_type, .transparent = true, .gamma = 0.3}, mask);
  }
}

TEST(DecodeMask, IndicesMayReachBeyondThePalette) {
  // As written by tools that give 21 classes 21 colours and then mark pixels with 255.
  Mask mask;
  decode_mask(write_png({.color_type = PNG_COLOR_TYPE_PALETTE, .palette_size = 21}, 1, 3, {20, 21, 255}),
              mask);
  EXPECT_THAT(values_of(mask), ::testing::ElementsAre(20, 21, 255));
}

TEST(DecodeMask, RowsAreFoundByTheirWidth) {
  Mask mask;
  decode_mask(write_png({.bit_depth = 16}, 2, 3, {1, 2, 300, 4, 50000, 6}), mask);
  EXPECT_EQ(mask.row(0)[2], 300);
  EXPECT_EQ(mask.row(1)[1], 50000);
}

TEST(DecodeMask, ColoursAndAlphaAreRefusedWithWhatIsExpected) {
  const auto refusal = [](int color_type, int bit_depth, int channels) {
    return mask_error(write_png({.color_type = color_type, .bit_depth = bit_depth}, 2, 2,
                                std::vector<std::uint16_t>(4 * channels)));
  };
  EXPECT_THAT(refusal(PNG_COLOR_TYPE_RGB, 8, 3),
              AllOf(HasSubstr("a PNG in RGB, 8 bits a channel, is no mask"),
                    HasSubstr("greyscale of 1 to 16 bits or as a palette's index")));
  EXPECT_THAT(refusal(PNG_COLOR_TYPE_RGB, 16, 3), HasSubstr("in RGB, 16 bits a channel"));
  EXPECT_THAT(refusal(PNG_COLOR_TYPE_RGBA, 8, 4), HasSubstr("in RGB with alpha, 8 bits"));
  EXPECT_THAT(refusal(PNG_COLOR_TYPE_GRAY_ALPHA, 8, 2), HasSubstr("in greyscale with alpha, 8 bits"));
}

TEST(DecodeMask, OtherFilesAreNamedForWhatTheyAre) {
  const Image image = testing::make_photograph(8, 8, 1);
  EXPECT_THAT(mask_error(encode_jpeg(image)), HasSubstr("a mask is a PNG of class numbers; this is a JPEG"));
  EXPECT_THAT(mask_error(encode_pnm(image)), HasSubstr("this is a PPM or PGM"));
  EXPECT_THAT(mask_error({'I', 'I', '*', 0}), HasSubstr("this is a TIFF"));
  EXPECT_THAT(mask_error({}), HasSubstr("this is an empty file"));
}

TEST(DecodeMask, DamageIsAnError) {
  const Bytes whole = encode_png(testing::make_photograph(40, 40, 1));
  Bytes bytes = whole;
  bytes[bytes.size() / 2] ^= 0x10;
  EXPECT_THAT(mask_error(bytes), HasSubstr("PNG: "));
  for (std::size_t size = 4; size < whole.size(); size += 5) {
    EXPECT_THAT(mask_error({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}),
                HasSubstr("cut short"))
        << size;
  }
  bytes = whole;
  bytes[4] = '\n';  // as a transfer in text mode leaves it
  EXPECT_THAT(mask_error(bytes), HasSubstr("PNG: "));
}

TEST(DecodeMask, AbsurdSizesAreRefusedFromTheHeader) {
  Bytes bytes = write_png({}, 1, 1, {0});
  constexpr std::size_t kType = 12, kWidth = 16, kHeight = 20, kCrc = 29;  // of IHDR, which comes first
  bytes[kWidth + 1] = bytes[kHeight + 1] = 1;
  const auto crc = static_cast<std::uint32_t>(crc32(0, bytes.data() + kType, kCrc - kType));
  for (int i = 0; i < 4; ++i) bytes[kCrc + i] = static_cast<std::uint8_t>(crc >> (24 - 8 * i));
  EXPECT_THAT(mask_error(bytes), HasSubstr("announces 65537 x 65537 pixels; at most 178956970"));
}

TEST(MaskClasses, ValuesAreClassesUnlessIgnored) {
  const MaskClasses classes{.num_classes = 21};
  EXPECT_EQ(classes.class_of(0), 0);
  EXPECT_FALSE(classes.is_ignored(0));
  EXPECT_TRUE(classes.is_allowed(20));
  EXPECT_FALSE(classes.is_allowed(21));
  EXPECT_TRUE(classes.is_ignored(255));
  EXPECT_TRUE(classes.is_allowed(255));
  EXPECT_FALSE(classes.is_allowed(254));
}

TEST(MaskClasses, WhereZeroIsIgnoredClassesBeginAtOne) {
  const MaskClasses classes{.num_classes = 150, .zero_is_ignored = true};
  EXPECT_TRUE(classes.is_ignored(0));
  EXPECT_EQ(classes.class_of(1), 0);
  EXPECT_TRUE(classes.is_allowed(150));
  EXPECT_FALSE(classes.is_allowed(151));
  EXPECT_TRUE(classes.is_ignored(255));
}

TEST(MaskClasses, TheIgnoredValueComesBeforeAClassOfItsNumber) {
  const MaskClasses classes{.num_classes = 60000, .ignore_value = 7};
  EXPECT_TRUE(classes.is_ignored(7));
  EXPECT_FALSE(classes.is_ignored(255));
  EXPECT_TRUE(classes.is_allowed(59999));
  EXPECT_FALSE(classes.is_allowed(60000));
}

}  // namespace
}  // namespace cosub::data
