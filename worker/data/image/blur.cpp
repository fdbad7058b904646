#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "common/vector_clones.h"
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

/// One line of the result from the lines around it, lines[box.radius + 1] itself; `size` bytes of each. Lines
/// are whole rows (or shifted ones), so that neighbours in memory are computed alike.
COSUB_VECTOR_CLONES void filter_line(const Box& box, std::span<const std::uint8_t* const> lines,
                                     std::int64_t size, std::uint32_t* __restrict sums,
                                     std::uint8_t* __restrict out) {
  const std::uint32_t whole = box.whole, partial = box.partial;
  const auto rounded = [&](std::uint32_t inner, std::uint32_t ends) {
    return static_cast<std::uint8_t>((inner * whole + ends * partial + (1u << 23)) >> 24);
  };
  // Radius 0 and 1 are all that sigmas up to 2 need.
  if (box.radius == 0) {
    const std::uint8_t *a = lines[0], *b = lines[1], *c = lines[2];
    for (std::int64_t i = 0; i < size; ++i) {
      out[i] = rounded(b[i], static_cast<std::uint32_t>(a[i] + c[i]));
    }
    return;
  }
  if (box.radius == 1) {
    const std::uint8_t *a = lines[0], *b = lines[1], *c = lines[2], *d = lines[3], *e = lines[4];
    for (std::int64_t i = 0; i < size; ++i) {
      out[i] =
          rounded(static_cast<std::uint32_t>(b[i] + c[i] + d[i]), static_cast<std::uint32_t>(a[i] + e[i]));
    }
    return;
  }
  std::fill_n(sums, size, 0u);
  for (const std::uint8_t* line : lines.subspan(1, lines.size() - 2)) {
    for (std::int64_t i = 0; i < size; ++i) sums[i] += line[i];
  }
  const std::uint8_t *first = lines.front(), *last = lines.back();
  for (std::int64_t i = 0; i < size; ++i) {
    out[i] = rounded(sums[i], static_cast<std::uint32_t>(first[i] + last[i]));
  }
}

/// The row with its first and last pixel repeated on both sides.
void pad(const std::uint8_t* row, std::int64_t size, std::int64_t channels, std::int64_t padding,
         std::uint8_t* out) {
  for (std::int64_t i = 0; i < padding; ++i) out = std::copy_n(row, channels, out);
  out = std::copy_n(row, size, out);
  for (std::int64_t i = 0; i < padding; ++i) out = std::copy_n(row + size - channels, channels, out);
}

/// What one thread keeps for one image after another.
struct BlurBuffers {
  std::vector<std::uint32_t> sums;
  std::vector<std::uint8_t> padded;
  std::vector<const std::uint8_t*> lines;
};

}  // namespace

void gaussian_blur(Image& image, double sigma, Image& scratch) {
  if (sigma <= 0) return;
  const Box box = make_box(sigma);
  const std::int64_t size = image.row_bytes(), reach = box.radius + 1;
  thread_local BlurBuffers buffers;
  auto& [sums, padded, lines] = buffers;
  sums.resize(size);
  padded.resize(size + 2 * reach * image.channels);
  lines.resize(2 * reach + 1);

  for (std::int64_t k = 0; k < 2 * reach + 1; ++k) lines[k] = padded.data() + k * image.channels;
  for (std::int64_t y = 0; y < image.height; ++y) {
    for (int pass = 0; pass < kPasses; ++pass) {
      pad(image.row(y), size, image.channels, reach, padded.data());
      filter_line(box, lines, size, sums.data(), image.row(y));
    }
  }
  for (int pass = 0; pass < kPasses; ++pass) {
    scratch.reshape(image.height, image.width, image.channels);
    for (std::int64_t y = 0; y < image.height; ++y) {
      for (std::int64_t k = 0; k < 2 * reach + 1; ++k) {
        lines[k] = image.row(std::clamp<std::int64_t>(y + k - reach, 0, image.height - 1));
      }
      filter_line(box, lines, size, sums.data(), scratch.row(y));
    }
    std::swap(image, scratch);
  }
}

}  // namespace cosub::data
