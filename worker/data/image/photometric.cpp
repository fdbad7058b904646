#include "worker/data/image/photometric.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <span>

#include "common/vector_clones.h"

namespace cosub::data {
namespace {

using Table = std::array<std::uint8_t, 256>;
using Histogram = std::array<std::int64_t, 256>;
using Bytes = std::span<std::uint8_t>;

Bytes bytes_of(Image& image) {
  return {image.row(0), image.row(image.height)};
}

COSUB_VECTOR_CLONES void invert_bytes(Bytes bytes) {
  for (std::uint8_t& value : bytes) value = static_cast<std::uint8_t>(~value);
}

COSUB_VECTOR_CLONES void solarize_bytes(Bytes bytes, std::uint8_t threshold) {
  for (std::uint8_t& value : bytes) value = static_cast<std::uint8_t>(value ^ (value < threshold ? 0 : 255));
}

COSUB_VECTOR_CLONES void solarize_add_bytes(Bytes bytes, std::uint8_t added, std::uint8_t threshold) {
  for (std::uint8_t& value : bytes) {
    const auto sum = static_cast<std::uint8_t>(value + added);
    const std::uint8_t grown = sum < value ? 255 : sum;
    value = value < threshold ? grown : value;
  }
}

COSUB_VECTOR_CLONES void mask_bytes(Bytes bytes, std::uint8_t mask) {
  for (std::uint8_t& value : bytes) value = value & mask;
}

template <std::size_t Channels>
void apply_tables(const std::array<Table, 3>& tables, Bytes bytes) {
  for (std::size_t i = 0; i < bytes.size(); i += Channels) {
    for (std::size_t c = 0; c < Channels; ++c) bytes[i + c] = tables[c][bytes[i + c]];
  }
}

template <std::size_t Channels>
std::array<Histogram, 3> count(Bytes bytes) {
  std::array<Histogram, 3> counts{};
  for (std::size_t i = 0; i < bytes.size(); i += Channels) {
    for (std::size_t c = 0; c < Channels; ++c) ++counts[c][bytes[i + c]];
  }
  return counts;
}

/// `make`: Histogram -> Table, called for every channel.
template <std::size_t Channels, typename Make>
void apply_by_histogram(Image& image, Make make) {
  const std::array<Histogram, 3> counts = count<Channels>(bytes_of(image));
  std::array<Table, 3> tables;
  for (std::size_t c = 0; c < Channels; ++c) tables[c] = make(counts[c]);
  apply_tables<Channels>(tables, bytes_of(image));
}

template <typename Make>
void apply_by_histogram(Image& image, Make make) {
  image.channels == 1 ? apply_by_histogram<1>(image, make) : apply_by_histogram<3>(image, make);
}

template <typename Function>
Table make_table(Function function) {
  Table table;
  for (int value = 0; value < 256; ++value) {
    table[value] = static_cast<std::uint8_t>(std::clamp<std::int64_t>(function(value), 0, 255));
  }
  return table;
}

Table equalizing(const Histogram& counts) {
  const std::int64_t total = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  const auto last = std::find_if(counts.rbegin(), counts.rend(), [](std::int64_t n) { return n > 0; });
  const std::int64_t step = (total - *last) / 255;
  if (step == 0) return make_table([](int value) { return value; });
  std::int64_t below = step / 2;
  return make_table([&](int value) {
    const std::int64_t result = below / step;
    below += counts[value];
    return result;
  });
}

Table stretching(const Histogram& counts) {
  int low = 0, high = 255;
  while (low < 255 && counts[low] == 0) ++low;
  while (high > 0 && counts[high] == 0) --high;
  if (high <= low) return make_table([](int value) { return value; });
  const double scale = 255.0 / (high - low), offset = -low * scale;
  return make_table([&](int value) { return static_cast<std::int64_t>(value * scale + offset); });
}

}  // namespace

void invert(Image& image) {
  invert_bytes(bytes_of(image));
}

void solarize(Image& image, int threshold) {
  if (threshold <= 255) solarize_bytes(bytes_of(image), static_cast<std::uint8_t>(std::max(0, threshold)));
}

void solarize_add(Image& image, int added, int threshold) {
  solarize_add_bytes(bytes_of(image), static_cast<std::uint8_t>(added), static_cast<std::uint8_t>(threshold));
}

void posterize(Image& image, int bits) {
  mask_bytes(bytes_of(image), static_cast<std::uint8_t>(~((1 << (8 - bits)) - 1)));
}

void equalize(Image& image) {
  apply_by_histogram(image, equalizing);
}

void autocontrast(Image& image) {
  apply_by_histogram(image, stretching);
}

}  // namespace cosub::data
