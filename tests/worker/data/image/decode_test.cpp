// Regions are parts of the whole image to the bit, and damaged files are named for what they are.
#include "worker/data/image/decode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "tests/worker/data/image/decoding.h"
#include "tests/worker/data/image/images.h"
#include "worker/data/image/encode.h"

namespace cosub::data {
namespace {

using ::testing::HasSubstr;
using testing::make_photograph;
using testing::part;
using testing::same_pixels;

using testing::Bytes;
using testing::bytes_of;
using testing::data_error;
using testing::decode_whole;

/// Many regions of every kind of file, in both numbers of channels.
void expect_regions_equal(const Bytes& bytes, std::uint64_t seed, int regions) {
  KeyedRandom random(seed, Purpose::kTest, 1, 0);
  for (const std::int64_t channels : {1, 3}) {
    const Image whole = decode_whole(bytes, channels);
    Image image;
    for (int i = 0; i < regions; ++i) {
      const Region region = testing::draw_region(whole, random);
      decode(bytes, region, channels, image);
      ASSERT_TRUE(same_pixels(image, part(whole, region)))
          << region.height << " x " << region.width << " at " << region.top << ", " << region.left;
    }
  }
}

const std::vector<std::pair<std::int64_t, std::int64_t>> kSizes = {{1, 1},   {7, 9},     {16, 16},  {17, 33},
                                                                   {97, 64}, {120, 161}, {131, 250}};

TEST(DecodeJpeg, RegionsEqualTheWholeImageToTheBit) {
  std::uint64_t seed = 0;
  for (const auto& [height, width] : kSizes) {
    for (const std::int64_t channels : {1, 3}) {
      for (const Subsampling subsampling : {Subsampling::k420, Subsampling::k422, Subsampling::k444}) {
        for (const bool progressive : {false, true}) {
          for (const int restart_rows : {0, 1}) {
            const JpegOptions options{60, subsampling, progressive, restart_rows};
            const Bytes bytes = encode_jpeg(make_photograph(height, width, channels, ++seed), options);
            SCOPED_TRACE(::testing::Message()
                         << height << " x " << width << " x " << channels << ", subsampling "
                         << static_cast<int>(subsampling) << (progressive ? ", progressive" : "")
                         << (restart_rows > 0 ? ", restart markers" : ""));
            expect_regions_equal(bytes, seed, 25);
          }
        }
      }
    }
  }
}

TEST(DecodeJpeg, IsCloseToWhatWasEncoded) {
  const Image image = make_photograph(60, 90, 3);
  const Image decoded =
      decode_whole(encode_jpeg(image, {.quality = 98, .subsampling = Subsampling::k444}), 3);
  double error = 0;
  for (std::int64_t i = 0; i < image.height * image.row_bytes(); ++i) {
    error += std::abs(image.pixels[i] - decoded.pixels[i]);
  }
  EXPECT_LT(error / static_cast<double>(image.height * image.row_bytes()), 1.5);
}

TEST(DecodeJpeg, FilesCutShortAreErrorsEvenBelowTheRegion) {
  const Bytes whole = encode_jpeg(make_photograph(64, 64, 3));
  for (const std::size_t cut : {1u, 2u, 3u, 50u, 500u}) {
    Bytes bytes = whole;
    bytes.resize(bytes.size() - cut);
    EXPECT_THAT(data_error(bytes), HasSubstr("cut short")) << cut;
    Image image;
    EXPECT_THROW(decode(bytes, {0, 0, 8, 8}, 3, image), DataError) << cut;
  }
}

TEST(DecodeJpeg, CutAnywhereIsAnErrorAndTheDecoderGoesOn) {
  const Image image = make_photograph(40, 40, 3);
  const Bytes whole = encode_jpeg(image);
  const Image expected = decode_whole(whole, 3);
  for (std::size_t size = 0; size < whole.size(); size += 7) {
    EXPECT_NE(data_error({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}), "no DataError");
  }
  EXPECT_TRUE(same_pixels(decode_whole(whole, 3), expected));
}

TEST(DecodeJpeg, WrongEntropyDataIsTakenAsPillowTakesIt) {
  Bytes bytes = encode_jpeg(make_photograph(64, 64, 3));
  for (std::size_t i = bytes.size() - 60; i < bytes.size() - 30; ++i) bytes[i] = 0x55;
  EXPECT_EQ(data_error(bytes), "no DataError");
}

TEST(DecodePng, RegionsEqualTheWholeImage) {
  for (const auto& [height, width] : kSizes) {
    for (const std::int64_t channels : {1, 3}) {
      const Image image = make_photograph(height, width, channels);
      const Bytes bytes = encode_png(image);
      EXPECT_TRUE(same_pixels(decode_whole(bytes, channels), image));
      expect_regions_equal(bytes, 5, 10);
    }
  }
}

TEST(DecodePng, DamageIsAnError) {
  const Bytes whole = encode_png(make_photograph(40, 40, 3));
  Bytes bytes = whole;
  bytes[bytes.size() / 2] ^= 0x10;
  EXPECT_THAT(data_error(bytes), HasSubstr("PNG: "));
  bytes = whole;
  bytes.resize(bytes.size() - 20);
  EXPECT_THAT(data_error(bytes), HasSubstr("cut short"));
}

TEST(DecodePnm, RegionsEqualTheWholeImage) {
  for (const std::int64_t channels : {1, 3}) {
    const Image image = make_photograph(31, 17, channels);
    const Bytes bytes = encode_pnm(image);
    EXPECT_TRUE(same_pixels(decode_whole(bytes, channels), image));
    expect_regions_equal(bytes, 6, 50);
  }
}

TEST(DecodePnm, HeadersMayHaveComments) {
  const Bytes bytes = bytes_of("P5 # grey\n# 3 wide\n3 1\n255\nabc");
  EXPECT_THAT(decode_whole(bytes, 1).pixels, ::testing::ElementsAre('a', 'b', 'c'));
}

TEST(DecodePnm, OtherMaximaAndMissingPixelsAreErrors) {
  EXPECT_THAT(data_error(bytes_of("P5 3 1 65535\nabcdef")), HasSubstr("maximum 65535; only 255"));
  EXPECT_THAT(data_error(bytes_of("P6 2 1 255\nabcde")), HasSubstr("5 of 6 bytes"));
  EXPECT_THAT(data_error(bytes_of("P6 2")), HasSubstr("no width, height and maximum"));
  EXPECT_THAT(data_error(bytes_of("P6 2 2 255")), HasSubstr("does not end"));
}

TEST(Decode, SaysWhatOtherFilesAre) {
  EXPECT_THAT(data_error({}), HasSubstr("the file is empty"));
  EXPECT_THAT(data_error(bytes_of("<!DOCTYPE html><p>404")), HasSubstr("HTML"));
  EXPECT_THAT(data_error(bytes_of("GIF89a")), HasSubstr("a GIF"));
  EXPECT_THAT(data_error(bytes_of("RIFFxxxxWEBPVP8 ")), HasSubstr("WebP"));
  EXPECT_THAT(data_error(bytes_of("version https://git-lfs.github.com/spec/v1\n")), HasSubstr("Git LFS"));
  EXPECT_THAT(data_error({1, 2, 0xab}), HasSubstr("beginning with 01 02 ab"));
}

TEST(Decode, AbsurdSizesAreRefusedFromTheHeader) {
  EXPECT_THAT(data_error(bytes_of("P6 100000 100000 255\n")), HasSubstr("100000 x 100000 pixels; at most"));
  EXPECT_THAT(data_error(bytes_of("P6 0 3 255\n")), HasSubstr("0 x 3 pixels"));
  Bytes jpeg = encode_jpeg(make_photograph(16, 16, 3));
  for (std::size_t i = 2; i + 9 < jpeg.size(); ++i) {
    if (jpeg[i] != 0xff || jpeg[i + 1] != 0xc0) continue;
    for (int k = 5; k < 9; ++k) jpeg[i + k] = 0xfa;  // height and width
    break;
  }
  EXPECT_THAT(data_error(jpeg), HasSubstr("64250 x 64250 pixels; at most 178956970"));
}

TEST(Decode, ReadsSizesAndFormats) {
  const Image image = make_photograph(5, 8, 3);
  for (const auto& [bytes, format] : {std::pair{encode_jpeg(image), ImageFormat::kJpeg},
                                      {encode_png(image), ImageFormat::kPng},
                                      {encode_pnm(image), ImageFormat::kPnm}}) {
    const ImageInfo info = read_info(bytes);
    EXPECT_EQ(info.format, format);
    EXPECT_EQ(info.height, 5);
    EXPECT_EQ(info.width, 8);
    EXPECT_EQ(info.channels, 3);
  }
  const Image grey = make_photograph(5, 8, 1);
  for (const auto& bytes : {encode_jpeg(grey), encode_png(grey), encode_pnm(grey)}) {
    EXPECT_EQ(read_info(bytes).channels, 1);
    EXPECT_EQ(read_info(bytes).decoded_channels(), 1);
  }
}

TEST(Encode, SizesTheFormatCannotHoldAreErrors) {
  const Image image = make_photograph(1, 70000, 1);
  EXPECT_THROW(encode_jpeg(image), DataError);
}

}  // namespace
}  // namespace cosub::data
