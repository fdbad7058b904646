// Pixels before mixing. Resized values were recorded from torchvision 0.26 (resize on uint8, antialias=True).
#include "worker/data/transform.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "common/error.h"
#include "worker/data/crop.h"
#include "worker/data/normalize.h"
#include "worker/data/resize.h"

namespace cosub::data {
namespace {

Image pattern(std::int64_t height, std::int64_t width, std::int64_t channels) {
  Image image;
  image.reshape(height, width, channels);
  for (std::int64_t i = 0; i < height * width * channels; ++i) {
    image.pixels[i] = static_cast<std::uint8_t>(i * 37 % 251 + 1);
  }
  return image;
}

/// Row y, column x, channel c of the image mirrored or padded with zeros around.
std::uint8_t padded_at(const Image& image, std::int64_t y, std::int64_t x, std::int64_t c, Padding padding) {
  if (padding == Padding::kReflect) {
    const auto mirrored = [](std::int64_t i, std::int64_t size) {
      return i < 0 ? -i : i >= size ? 2 * size - 2 - i : i;
    };
    y = mirrored(y, image.height);
    x = mirrored(x, image.width);
  }
  if (y < 0 || x < 0 || y >= image.height || x >= image.width) return 0;
  return image.row(y)[x * image.channels + c];
}

void expect_window(const Image& image, const Region& window, Padding padding) {
  Image out;
  crop(image, window, padding, out);
  ASSERT_EQ(out.height, window.height);
  ASSERT_EQ(out.width, window.width);
  for (std::int64_t y = 0; y < window.height; ++y) {
    for (std::int64_t x = 0; x < window.width; ++x) {
      for (std::int64_t c = 0; c < image.channels; ++c) {
        ASSERT_EQ(out.row(y)[x * image.channels + c],
                  padded_at(image, y + window.top, x + window.left, c, padding))
            << y << ", " << x << " of the window at " << window.top << ", " << window.left;
      }
    }
  }
}

TEST(Crop, IsAWindowOfThePaddedImage) {
  for (const std::int64_t channels : {1, 3}) {
    const Image image = pattern(5, 4, channels);
    for (std::int64_t top = -6; top <= 6; ++top) {  // further than the image: a window may hold nothing of it
      for (std::int64_t left = -6; left <= 6; ++left) {
        expect_window(image, {top, left, 5, 4}, Padding::kZero);
        expect_window(image, {top, left, 3, 2}, Padding::kZero);
      }
    }
    for (std::int64_t top = -3; top <= 3; ++top) {
      for (std::int64_t left = -3; left <= 3; ++left)
        expect_window(image, {top, left, 5, 4}, Padding::kReflect);
    }
  }
}

TEST(Flip, ReversesColumnsAndKeepsChannels) {
  for (const std::int64_t channels : {1, 3}) {
    for (const std::int64_t width : {1, 4, 5}) {
      const Image image = pattern(3, width, channels);
      Image flipped = image;
      flip_horizontally(flipped);
      for (std::int64_t y = 0; y < 3; ++y) {
        for (std::int64_t x = 0; x < width; ++x) {
          for (std::int64_t c = 0; c < channels; ++c) {
            ASSERT_EQ(flipped.row(y)[x * channels + c], image.row(y)[(width - 1 - x) * channels + c]);
          }
        }
      }
    }
  }
}

Image resized(const Image& image, std::int64_t height, std::int64_t width,
              config::Interpolation interpolation = config::Interpolation::kBilinear) {
  Image out;
  resize(image, height, width, interpolation, out);
  return out;
}

TEST(Resize, EqualsTorchvision) {
  Image image;
  image.reshape(7, 7, 1);
  for (int i = 0; i < 7; ++i) {
    for (int j = 0; j < 7; ++j) image.row(i)[j] = static_cast<std::uint8_t>((i * i * 37 + j * 91) % 256);
  }
  const Image small = resized(image, 4, 4);
  const std::vector<int> expected = {70,  135, 115, 125, 144, 117, 96,  120,
                                     130, 79,  118, 91,  140, 153, 118, 149};
  for (int i = 0; i < 16; ++i) EXPECT_EQ(small.pixels[i], expected[i]) << i;

  const Image large = resized(image, 10, 10);
  const std::vector<int> first_row = {0, 50, 114, 177, 75, 49, 113, 176, 125, 34};
  for (int i = 0; i < 10; ++i) EXPECT_EQ(large.pixels[i], first_row[i]) << i;
  EXPECT_EQ(large.pixels[99], 86);
  EXPECT_EQ(large.pixels[55], 127);
}

TEST(Resize, TreatsEachChannelAlike) {
  const Image image = pattern(12, 9, 3);
  for (const auto how : {config::Interpolation::kBilinear, config::Interpolation::kBicubic}) {
    const Image all = resized(image, 6, 20, how);
    for (std::int64_t c = 0; c < 3; ++c) {
      Image one;
      one.reshape(12, 9, 1);
      for (std::int64_t i = 0; i < 12 * 9; ++i) one.pixels[i] = image.pixels[i * 3 + c];
      const Image alone = resized(one, 6, 20, how);
      for (std::int64_t i = 0; i < 6 * 20; ++i) ASSERT_EQ(all.pixels[i * 3 + c], alone.pixels[i]) << i;
    }
  }
}

StoredImage stored(const Image& image) {
  const auto bytes = static_cast<std::size_t>(image.height * image.row_bytes());
  return {std::span(image.pixels.data(), bytes),
          StoredImage::Shape{image.height, image.width, image.channels}};
}

/// The transformed image of one channel, in pixel values.
std::vector<float> trained(const config::DataConfig& data, const Image& image, std::int64_t size,
                           std::int64_t epoch, std::int64_t draw) {
  ImageBuffers buffers;
  TrainTransform(data, 1, size, 7).apply(stored(image), epoch, draw, buffers);
  return {buffers.a.pixels.begin(), buffers.a.pixels.begin() + size * size};
}

TEST(TrainTransform, PlacementsAreUniformAndKeyedByEpochAndDraw) {
  config::DataConfig data;
  data.augment.crop_padding_px = 1;
  data.augment.flip = 0.25;
  Image image;
  image.reshape(3, 3, 1);
  for (int i = 0; i < 9; ++i) image.pixels[i] = static_cast<std::uint8_t>(i + 1);
  std::map<std::vector<float>, int> seen;
  const int n = 9000;
  for (int draw = 0; draw < n; ++draw) ++seen[trained(data, image, 3, 2, draw)];
  ASSERT_EQ(seen.size(), 18u);  // nine windows, each mirrored or not
  for (const auto& [row, count] : seen) {
    if (row[4] != 5) continue;  // the windows that lie in the middle show which side is where
    EXPECT_NEAR(count, n / 9 * (row[3] == 4 ? 0.75 : 0.25), 5 * 28);
  }
  EXPECT_EQ(trained(data, image, 3, 2, 5), trained(data, image, 3, 2, 5));
  int same = 0;
  for (int draw = 0; draw < 900; ++draw) {
    same += trained(data, image, 3, 2, draw) == trained(data, image, 3, 3, draw);
  }
  EXPECT_LT(same, 900 / 9);  // by chance: 900 / 9 * (0.75^2 + 0.25^2) = 62
}

TEST(TrainTransform, SimpleCropIsAWindowOfTheMirroredImageResizedByItsShorterSide) {
  config::DataConfig data;
  data.augment.crop = config::Crop::kSimple;
  const Image image = pattern(24, 16, 1);
  const Image smaller = resized(image, 12, 8, config::Interpolation::kBicubic);
  std::set<std::vector<float>> windows;
  for (std::int64_t top = -4; top <= 8; ++top) {
    for (std::int64_t left = -4; left <= 4; ++left) {
      Image window;
      crop(smaller, {top, left, 8, 8}, Padding::kReflect, window);
      windows.insert(std::vector<float>(window.pixels.begin(), window.pixels.begin() + 64));
    }
  }
  std::set<std::vector<float>> seen;
  for (int draw = 0; draw < 2000; ++draw) seen.insert(trained(data, image, 8, 0, draw));
  EXPECT_EQ(seen, windows);
}

TEST(TrainTransform, RandomResizedCropStaysInsideAndVaries) {
  config::DataConfig data;
  data.augment.crop = config::Crop::kRandomResized;
  Image image;
  image.reshape(40, 60, 1);
  for (std::int64_t y = 0; y < 40; ++y) {
    for (std::int64_t x = 0; x < 60; ++x) image.row(y)[x] = static_cast<std::uint8_t>(40 + 2 * x);
  }
  double widest = 0, narrowest = 1000;
  for (int draw = 0; draw < 300; ++draw) {
    const std::vector<float> row = trained(data, image, 16, 0, draw);
    const double width = (row[14] - row[1]) / 2.0 * 16 / 13;  // the slope tells how much was cropped
    widest = std::max(widest, width);
    narrowest = std::min(narrowest, width);
    EXPECT_GE(row[0], 38);
    EXPECT_LE(row[15], 160);
  }
  EXPECT_GT(widest, 48);
  EXPECT_LT(narrowest, 16);
}

TEST(EvalTransform, IsTheCentreOfTheImageResizedByItsShorterSide) {
  config::DataConfig data;
  data.crop_ratio = 0.8;
  const Image image = pattern(31, 20, 1);
  const Image smaller =
      resized(image, 15, 10, config::Interpolation::kBicubic);  // floor(8 / 0.8); 10 * 31 / 20
  Image expected;
  crop(smaller, {4, 1, 8, 8}, Padding::kZero, expected);  // (15 - 8) / 2 = 3.5 rounds to even
  ImageBuffers buffers;
  EvalTransform(data, 1, 8).apply(stored(image), buffers);
  for (int i = 0; i < 64; ++i) EXPECT_EQ(buffers.a.pixels[i], expected.pixels[i]) << i;
}

// 65,500 pixels in one row would be 16.8 million in each of 256.
TEST(Transforms, ALineOfPixelsIsABadSampleAndNoGigabytes) {
  for (const bool lies : {true, false}) {
    const Image line = lies ? pattern(1, 65500, 1) : pattern(65500, 1, 1);
    ImageBuffers buffers;
    const auto error_of = [&](const auto& transform) -> std::string {
      try {
        transform();
      } catch (const DataError& error) {
        return error.what();
      }
      return "no DataError";
    };
    const std::string expected =
        lies ? "65500 x 1 pixels would become 16768000 x 256 with the shorter side resized to 256"
             : "1 x 65500 pixels would become 256 x 16768000 with the shorter side resized to 256";
    config::DataConfig data;
    data.crop_ratio = 0.875;
    EXPECT_THAT(error_of([&] { EvalTransform(data, 1, 224).apply(stored(line), buffers); }),
                ::testing::HasSubstr(expected));
    data.augment.crop = config::Crop::kSimple;
    EXPECT_THAT(error_of([&] { TrainTransform(data, 1, 256, 7).apply(stored(line), 0, 0, buffers); }),
                ::testing::HasSubstr(expected));
    // Where the size is fixed, so is the memory.
    data.augment.crop = config::Crop::kNone;
    EXPECT_EQ(error_of([&] { TrainTransform(data, 1, 256, 7).apply(stored(line), 0, 0, buffers); }),
              "no DataError");
    data.augment.crop = config::Crop::kRandomResized;
    EXPECT_EQ(error_of([&] { TrainTransform(data, 1, 256, 7).apply(stored(line), 0, 0, buffers); }),
              "no DataError");
  }
}

TEST(Normalizer, EqualsToTensorAndNormalize) {
  config::DataConfig data;
  data.mean = {0.485, 0.456, 0.406};
  data.std = {0.229, 0.224, 0.225};
  for (const std::int64_t channels : {3, 1}) {
    data.mean.resize(channels);
    data.std.resize(channels);
    Image image;  // a prime number of pixels, of every value
    image.reshape(1, 257, channels);
    for (std::int64_t i = 0; i < 257 * channels; ++i) image.pixels[i] = static_cast<std::uint8_t>(i * 7);
    std::vector<float> out(channels * 257);
    Normalizer(data, channels).apply(image, out.data());
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t i = 0; i < 257; ++i) {
        const float scaled = static_cast<float>(image.pixels[i * channels + c]) / 255.0f;
        EXPECT_EQ(out[c * 257 + i],
                  (scaled - static_cast<float>(data.mean[c])) / static_cast<float>(data.std[c]))
            << c << " " << i;
      }
    }
  }
}

TEST(Normalizer, TakesAHalfWhereNothingIsGiven) {
  Image image;
  image.reshape(1, 2, 1);
  image.pixels[0] = 0;
  image.pixels[1] = 255;
  std::vector<float> out(2);
  Normalizer({}, 1).apply(image, out.data());
  EXPECT_EQ(out, (std::vector<float>{-1, 1}));
}

TEST(Normalizer, MeanOfTheWrongLengthIsRefused) {
  config::DataConfig data;
  data.mean = {0.5};
  try {
    Normalizer(data, 3);
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("data.mean: 1 values found; the images have 3 channels"));
  }
}

}  // namespace
}  // namespace cosub::data
