// What fuzzing and a look at the libraries found (bench/fuzz): files made to confuse or to exhaust the
// decoders.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <zlib.h>

#include <algorithm>
#include <string>
#include <vector>

#include "common/error.h"
#include "tests/worker/data/image/decoding.h"
#include "tests/worker/data/image/images.h"
#include "worker/data/image/decode.h"
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

constexpr std::uint8_t kStartOfScan = 0xda, kQuantization = 0xdb;

std::string big_endian(std::uint32_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(value >> (8 * i));
  return text;
}

/// A JPEG segment with its length.
std::string segment(std::uint8_t marker, const std::string& content) {
  return std::string{'\xff', static_cast<char>(marker)} +
         big_endian(static_cast<std::uint32_t>(content.size() + 2), 2) + content;
}

/// Where the first segment of this kind begins, from `from` on.
Bytes::iterator find_segment(Bytes& bytes, std::uint8_t marker, std::ptrdiff_t from = 0) {
  const std::uint8_t pattern[] = {0xff, marker};
  return std::search(bytes.begin() + from, bytes.end(), std::begin(pattern), std::end(pattern));
}

/// A grey progressive image, all of one colour, whose coefficients come again and again.
Bytes with_scans(int scans) {
  const std::string one_code(1, '\1'), no_codes(15, '\0');
  std::string file = "\xff\xd8" + segment(kQuantization, '\0' + std::string(64, '\1'));
  file += segment(0xc2, '\10' + big_endian(16, 2) + big_endian(16, 2) + std::string("\1\1\x11\0", 4));
  file += segment(0xc4, '\0' + one_code + no_codes + '\0');    // a difference of 0
  file += segment(0xc4, '\x10' + one_code + no_codes + '\0');  // the end of a block
  file += segment(kStartOfScan, std::string("\1\1\0\0\0\0", 6)) + '\0';
  for (int i = 1; i < scans; ++i) file += segment(kStartOfScan, std::string("\1\1\0\1\77\0", 6)) + '\0';
  return bytes_of(file + "\xff\xd9");
}

TEST(HostileJpeg, TablesOfTheFileBeforeAreNotTakenOver) {
  const Bytes whole = encode_jpeg(make_photograph(24, 24, 3));
  Bytes without_tables = whole;
  for (auto at = find_segment(without_tables, kQuantization); at != without_tables.end();
       at = find_segment(without_tables, kQuantization)) {
    without_tables.erase(at, at + 2 + (at[2] << 8 | at[3]));
  }
  decode_whole(whole, 3);
  EXPECT_THAT(data_error(without_tables), HasSubstr("Quantization table 0x00 was not defined"));
}

// The decoder smooths between blocks then, which looks at pixels further away.
TEST(HostileJpeg, RegionsEqualTheWholeImageWhereScansAreMissing) {
  for (const Subsampling subsampling : {Subsampling::k420, Subsampling::k444}) {
    Bytes bytes = encode_jpeg(make_photograph(120, 161, 3),
                              {.quality = 30, .subsampling = subsampling, .progressive = true});
    const auto first = find_segment(bytes, kStartOfScan);
    bytes.erase(find_segment(bytes, 0xc4, first - bytes.begin()), bytes.end());  // the next scan's codes
    bytes.insert(bytes.end(), {0xff, 0xd9});
    const Image whole = decode_whole(bytes, 3);
    KeyedRandom random(3, Purpose::kTest, 0, 0);
    Image image;
    for (int i = 0; i < 200; ++i) {
      const Region region = testing::draw_region(whole, random);
      decode(bytes, region, 3, image);
      ASSERT_TRUE(same_pixels(image, part(whole, region)))
          << region.height << " x " << region.width << " at " << region.top << ", " << region.left;
    }
  }
}

TEST(HostileJpeg, EndlessScansAreRefused) {
  EXPECT_EQ(data_error(with_scans(500)), "no DataError");
  EXPECT_THAT(data_error(with_scans(501)), HasSubstr("more than 500 scans"));
}

TEST(HostileImages, EndlessLinesAreRefused) {
  const auto line = [](std::int64_t width, std::int64_t height) {
    return bytes_of("P5 " + std::to_string(width) + " " + std::to_string(height) + " 255\n" +
                    std::string(width * height, 'x'));
  };
  EXPECT_EQ(data_error(line(kMaxSide, 1)), "no DataError");
  EXPECT_THAT(data_error(line(kMaxSide + 1, 1)), HasSubstr("1000001 x 1 pixels; a side has at most 1000000"));
  EXPECT_THAT(data_error(line(1, kMaxSide + 1)), HasSubstr("1 x 1000001 pixels; a side has at most 1000000"));
}

TEST(HostilePng, TextIsNotInflated) {
  const auto chunk = [](const std::string& content) {
    const auto sum = ::crc32(0, reinterpret_cast<const Bytef*>(content.data()), content.size());
    return big_endian(static_cast<std::uint32_t>(content.size() - 4), 4) + content +
           big_endian(static_cast<std::uint32_t>(sum), 4);
  };
  const Bytes pixels(7'900'000, 'x');  // libpng takes up to 8 million bytes in each chunk
  std::string text(::compressBound(pixels.size()), '\0');
  uLongf size = text.size();
  ASSERT_EQ(::compress(reinterpret_cast<Bytef*>(text.data()), &size, pixels.data(), pixels.size()), Z_OK);
  text = chunk(std::string("zTXtkey\0\0", 9) + text.substr(0, size));
  const Image image = make_photograph(9, 7, 3);
  Bytes bytes = encode_png(image);
  for (int i = 0; i < 40; ++i) bytes.insert(bytes.begin() + 33, text.begin(), text.end());  // after IHDR
  rusage before{}, after{};
  ASSERT_EQ(::getrusage(RUSAGE_SELF, &before), 0);
  EXPECT_TRUE(same_pixels(decode_whole(bytes, 3), image));
  ASSERT_EQ(::getrusage(RUSAGE_SELF, &after), 0);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 100'000) << "KiB; inflated, the text has 316 million bytes";
}

}  // namespace
}  // namespace cosub::data
