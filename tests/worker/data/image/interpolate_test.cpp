// Fast interpolation is exact interpolation: to the bit, wherever the point lies.
#include "worker/data/image/interpolate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/worker/data/image/images.h"

namespace cosub::data {
namespace {

struct PointsInside {
  std::vector<double> x, y;
  void add(double new_x, double new_y) {
    x.push_back(new_x);
    y.push_back(new_y);
  }
};

PointsInside points_in(const Image& image) {
  const auto height = static_cast<double>(image.height), width = static_cast<double>(image.width);
  KeyedRandom random(3, Purpose::kTest, 4, 5);
  PointsInside points;
  for (int i = 0; i < 20'000; ++i) {
    const double x = width * random.uniform(), y = height * random.uniform();
    points.add(x, y);
    points.add(std::floor(x * 4) / 4, std::floor(y * 4) / 4);  // results that are whole numbers, often
    points.add(x, std::floor(y) + 0.5);
    points.add(std::floor(x) + 0.5, y);
    points.add(std::floor(x) + 0.5 + (x < width / 2 ? 1e-9 : -1e-9), std::floor(y) + 0.5);
  }
  for (const double x : {0.0, std::nextafter(width, 0.0), std::nextafter(0.5, 0.0)}) {
    for (const double y : {0.0, std::nextafter(height, 0.0), std::nextafter(0.5, 0.0)}) points.add(x, y);
  }
  return points;
}

void expect_exact(const Image& image) {
  BorderedPixels pixels;
  pixels.assign(image);
  const PointsInside points = points_in(image);
  for (const Resampling resampling : {Resampling::kBilinear, Resampling::kBicubic}) {
    std::vector<std::uint8_t> found(points.x.size() * image.channels);
    interpolate(pixels, resampling, {points.x, points.y}, found.data());
    for (std::size_t i = 0; i < points.x.size(); ++i) {
      std::uint8_t exact[3];
      interpolate_exactly(pixels, resampling, points.x[i], points.y[i], exact);
      for (std::int64_t c = 0; c < image.channels; ++c) {
        ASSERT_EQ(found[i * image.channels + c], exact[c]) << "at " << points.x[i] << ", " << points.y[i];
      }
    }
  }
}

TEST(Interpolate, IsExactInPhotographs) {
  for (const std::int64_t channels : {1, 3}) {
    for (const auto& [height, width] :
         {std::pair{61, 97}, std::pair{1, 1}, std::pair{1, 7}, std::pair{5, 2}}) {
      expect_exact(testing::make_photograph(height, width, channels));
    }
  }
}

TEST(Interpolate, IsExactBetweenExtremeValues) {
  for (const std::int64_t channels : {1, 3}) {
    KeyedRandom random(9, Purpose::kTest, 0, 0);
    Image image;
    image.reshape(31, 47, channels);
    for (std::uint8_t* value = image.row(0); value != image.row(image.height); ++value) {
      *value = random.next_u32() % 2 == 0 ? 0 : 255;
    }
    expect_exact(image);
  }
}

TEST(Interpolate, KeepsFlatColours) {
  Image image;
  image.reshape(20, 20, 3);
  for (std::int64_t i = 0; i < 400; ++i) {
    image.row(0)[3 * i] = 255;
    image.row(0)[3 * i + 1] = 3;
    image.row(0)[3 * i + 2] = 200;
  }
  expect_exact(image);
}

}  // namespace
}  // namespace cosub::data
