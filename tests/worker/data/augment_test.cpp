// Pixels before mixing. Resized values were recorded from torchvision 0.26 (resize on uint8, antialias=True).
#include "worker/data/augment.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/randint.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"

namespace cosub::data {
namespace {

at::Tensor pattern(std::int64_t channels, std::int64_t height, std::int64_t width) {
  return (at::arange(channels * height * width, at::kLong) * 37 % 251 + 1)
      .to(at::kByte)
      .reshape({channels, height, width});
}

TEST(Augment, CropIsAWindowOfTheImagePaddedWithZeros) {
  const at::Tensor image = pattern(3, 5, 4);
  const std::int64_t padding = 6;  // more than the image: a window may hold nothing of it
  const at::Tensor padded = at::constant_pad_nd(image, {padding, padding, padding, padding}, 0);
  for (std::int64_t top = 0; top <= 2 * padding; ++top) {
    for (std::int64_t left = 0; left <= 2 * padding; ++left) {
      const at::Tensor window = padded.narrow(1, top, 5).narrow(2, left, 4);
      ASSERT_TRUE(crop_and_flip(image, padding, {top, left, false}).equal(window)) << top << ", " << left;
      ASSERT_TRUE(crop_and_flip(image, padding, {top, left, true}).equal(window.flip({2})))
          << top << ", " << left;
    }
  }
}

TEST(Augment, PlacementsAreUniformAndKeyedByEpochAndPosition) {
  const config::AugmentConfig augment{.crop_padding_px = 1, .flip = 0.25};
  std::array<int, 9> cells{};
  int flips = 0;
  const int n = 9000;
  for (int position = 0; position < n; ++position) {
    const Placement placement = draw_placement(augment, 7, 2, position);
    ++cells[placement.top * 3 + placement.left];
    flips += placement.flip;
    const Placement again = draw_placement(augment, 7, 2, position);
    ASSERT_EQ(placement.top, again.top);
    ASSERT_EQ(placement.flip, again.flip);
  }
  for (const int count : cells) EXPECT_NEAR(count, n / 9, 5 * 30);  // five standard deviations
  EXPECT_NEAR(flips, n / 4, 5 * 41);
  int same = 0;
  for (int position = 0; position < 900; ++position) {
    same += draw_placement(augment, 7, 2, position).top == draw_placement(augment, 7, 3, position).top;
  }
  EXPECT_NEAR(same, 300, 5 * 14);
}

TEST(Augment, ResizeEqualsTorchvision) {
  at::Tensor image = at::empty({1, 7, 7}, at::kByte);
  for (int i = 0; i < 7; ++i) {
    for (int j = 0; j < 7; ++j) image[0][i][j] = (i * i * 37 + j * 91) % 256;
  }
  const at::Tensor small = resize(image, 4);
  const std::vector<int> expected = {70,  135, 115, 125, 144, 117, 96,  120,
                                     130, 79,  118, 91,  140, 153, 118, 149};
  ASSERT_EQ(small.sizes(), (std::vector<std::int64_t>{1, 4, 4}));
  for (int i = 0; i < 16; ++i) EXPECT_EQ(small.flatten()[i].item<int>(), expected[i]) << i;

  const at::Tensor large = resize(image, 10).flatten();
  const std::vector<int> first_row = {0, 50, 114, 177, 75, 49, 113, 176, 125, 34};
  for (int i = 0; i < 10; ++i) EXPECT_EQ(large[i].item<int>(), first_row[i]) << i;
  EXPECT_EQ(large[99].item<int>(), 86);
  EXPECT_EQ(large[55].item<int>(), 127);
}

TEST(Augment, ResizeKeepsColourAndContiguity) {
  const at::Tensor image = pattern(3, 12, 9);
  const at::Tensor resized = resize(image, 6);
  ASSERT_EQ(resized.sizes(), (std::vector<std::int64_t>{3, 6, 6}));
  EXPECT_TRUE(resized.is_contiguous());
  EXPECT_TRUE(resized[1].equal(resize(image.slice(0, 1, 2).contiguous(), 6)[0]));
}

TEST(Augment, NormaliseEqualsToTensorAndNormalize) {
  config::DataConfig data;
  data.mean = {0.485, 0.456, 0.406};
  data.std = {0.229, 0.224, 0.225};
  const at::Tensor image = at::randint(0, 256, {3, 16, 16}, at::kByte);
  at::Tensor out = at::empty({3, 16, 16});
  Normalizer(data, 3).apply(image, out.mutable_data_ptr<float>());
  const at::Tensor scaled = image.to(at::kFloat).div(255);
  for (int c = 0; c < 3; ++c) {
    const at::Tensor expected =
        scaled[c].sub(static_cast<float>(data.mean[c])).div(static_cast<float>(data.std[c]));
    EXPECT_TRUE(out[c].equal(expected)) << c;
  }
}

TEST(Augment, MeanOfTheWrongLengthIsRefused) {
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
