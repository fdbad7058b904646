#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "worker/data/image/photometric.h"

namespace cosub::data {
namespace {

constexpr int kPasses = 3;

/// A box of 2 * radius + 1 whole pixels and two partial ones at its ends; weights in 1 / 2^24.
struct Box {
  std::int64_t radius = 0;
  std::uint32_t whole = 0, partial = 0;
};

/// The box whose kPasses-fold application has variance sigma^2. Mixed precision as Pillow's, to get its bits.
Box make_box(double sigma) {
  const auto radius = static_cast<float>(sigma);
  const float variance = radius * radius / kPasses;
  const auto length = static_cast<float>(std::sqrt(12.0 * variance + 1.0));
  const auto whole = static_cast<float>(std::floor((length - 1.0) / 2.0));
  float part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance);
  part /= 6 * (variance - (whole + 1) * (whole + 1));
  const float extended = whole + part;

  constexpr std::uint32_t kOne = 1u << 24;
  Box box;
  box.radius = static_cast<std::int64_t>(extended);
  box.whole = static_cast<std::uint32_t>(static_cast<float>(kOne) / (extended * 2 + 1));
  box.partial = (kOne - static_cast<std::uint32_t>(box.radius * 2 + 1) * box.whole) / 2;
  return box;
}

/// One line of the result: `at(k)` is the line k pixels away. Lines are whole rows (or shifted ones), so that
/// neighbours in memory are computed alike.
template <typename At>
void filter_line(const Box& box, const At& at, std::int64_t size, std::uint32_t* sums, std::uint8_t* out) {
  const std::uint8_t* centre = at(0);
  for (std::int64_t i = 0; i < size; ++i) sums[i] = centre[i];
  for (std::int64_t k = 1; k <= box.radius; ++k) {
    const std::uint8_t *before = at(-k), *after = at(k);
    for (std::int64_t i = 0; i < size; ++i) sums[i] += before[i] + after[i];
  }
  const std::uint8_t *before = at(-box.radius - 1), *after = at(box.radius + 1);
  const std::uint32_t whole = box.whole, partial = box.partial;
  for (std::int64_t i = 0; i < size; ++i) {
    const std::uint32_t ends = static_cast<std::uint32_t>(before[i] + after[i]);
    out[i] = static_cast<std::uint8_t>((sums[i] * whole + ends * partial + (1u << 23)) >> 24);
  }
}

/// The row with its first and last pixel repeated on both sides.
void pad(const std::uint8_t* row, std::int64_t size, std::int64_t channels, std::int64_t padding,
         std::uint8_t* out) {
  const std::int64_t edge = padding * channels;
  for (std::int64_t i = 0; i < edge; ++i) {
    out[i] = row[i % channels];
    out[edge + size + i] = row[size - channels + i % channels];
  }
  std::copy(row, row + size, out + edge);
}

}  // namespace

void gaussian_blur(Image& image, double sigma, Image& scratch) {
  if (sigma <= 0) return;
  const Box box = make_box(sigma);
  const std::int64_t size = image.row_bytes(), reach = box.radius + 1;
  thread_local std::vector<std::uint32_t> sums;
  thread_local std::vector<std::uint8_t> padded;
  sums.resize(size);
  padded.resize(size + 2 * reach * image.channels);

  const std::uint8_t* centre = padded.data() + reach * image.channels;
  const auto shifted = [&](std::int64_t k) { return centre + k * image.channels; };
  for (std::int64_t y = 0; y < image.height; ++y) {
    for (int pass = 0; pass < kPasses; ++pass) {
      pad(image.row(y), size, image.channels, reach, padded.data());
      filter_line(box, shifted, size, sums.data(), image.row(y));
    }
  }
  for (int pass = 0; pass < kPasses; ++pass) {
    scratch.reshape(image.height, image.width, image.channels);
    for (std::int64_t y = 0; y < image.height; ++y) {
      const auto row = [&](std::int64_t k) {
        return image.row(std::clamp<std::int64_t>(y + k, 0, image.height - 1));
      };
      filter_line(box, row, size, sums.data(), scratch.row(y));
    }
    std::swap(image, scratch);
  }
}

}  // namespace cosub::data
