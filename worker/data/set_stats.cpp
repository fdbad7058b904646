#include "worker/data/set_stats.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>

#include "common/error.h"
#include "common/random.h"
#include "worker/data/image/decode.h"
#include "worker/data/permutation.h"
#include "worker/data/storage/in_threads.h"

namespace cosub::data {
namespace {

/// 16 bytes, because sets have millions of samples.
struct Facts {
  std::uint32_t width = 0, height = 0, bytes = 0;  // width 0: not readable
  bool is_pixels = false;
  ImageFormat format = ImageFormat::kJpeg;
  std::uint8_t channels = 0;
};

/// Of values in 0 to 1, in fixed point: integers add up to the same in any order.
struct PixelSums {
  std::array<std::uint64_t, 3> mean{}, square{};
  std::int64_t images = 0;
  bool has_colour = false;

  void add(const PixelSums& other) {
    for (std::size_t c = 0; c < 3; ++c) {
      mean[c] += other.mean[c];
      square[c] += other.square[c];
    }
    images += other.images;
    has_colour |= other.has_colour;
  }
};

constexpr double kOne = 4294967296.0;

PixelSums sums_of(const Image& image) {
  const std::int64_t channels = image.channels, pixels = image.height * image.width;
  std::array<std::uint64_t, 3> sum{}, squares{};
  const std::uint8_t* pixel = image.pixels.data();
  for (std::int64_t i = 0; i < pixels; ++i) {
    for (std::int64_t c = 0; c < channels; ++c) {
      const std::uint32_t value = *pixel++;
      sum[c] += value;
      squares[c] += value * value;
    }
  }
  PixelSums result{.images = 1, .has_colour = channels == 3};
  const double one_pixel = kOne / static_cast<double>(pixels);
  for (std::size_t c = 0; c < 3; ++c) {
    const std::size_t from = channels == 1 ? 0 : c;
    result.mean[c] = std::llround(static_cast<double>(sum[from]) * one_pixel / 255);
    result.square[c] = std::llround(static_cast<double>(squares[from]) * one_pixel / (255 * 255));
  }
  return result;
}

void write_moments(const PixelSums& sums, SetStats& stats) {
  stats.pixel_samples = sums.images;
  const std::size_t channels = sums.images == 0 ? 0 : sums.has_colour ? 3 : 1;
  const double all = kOne * static_cast<double>(sums.images);
  for (std::size_t c = 0; c < channels; ++c) {
    const double mean = static_cast<double>(sums.mean[c]) / all;
    stats.mean.push_back(mean);
    stats.std.push_back(std::sqrt(std::max(0.0, static_cast<double>(sums.square[c]) / all - mean * mean)));
  }
}

std::vector<bool> draw_pixel_samples(std::int64_t size, std::int64_t count) {
  if (count == 0 || count >= size) return std::vector<bool>(size, true);
  std::vector<bool> drawn(size);
  const Permutation order(stream_seed(0, "data stats"), size);
  for (std::int64_t i = 0; i < count; ++i) drawn[order.at(0, i)] = true;
  return drawn;
}

std::string format_name(const Facts& facts) {
  if (facts.is_pixels) return "pixels";
  switch (facts.format) {
    case ImageFormat::kJpeg:
      return "JPEG";
    case ImageFormat::kPng:
      return "PNG";
    case ImageFormat::kPnm:
      break;
  }
  return "PPM/PGM";
}

std::string channels_name(const Facts& facts) {
  static constexpr std::array<const char*, 4> kNames = {"grey", "grey + alpha", "colour", "colour + alpha"};
  if (facts.channels == 4 && facts.format == ImageFormat::kJpeg) return "CMYK";
  return facts.channels >= 1 && facts.channels <= 4 ? kNames[facts.channels - 1] : "other";
}

Facts facts_of(const StoredImage& stored) {
  const auto bytes = static_cast<std::uint32_t>(stored.bytes.size());
  if (stored.pixels) {
    return {static_cast<std::uint32_t>(stored.pixels->width),
            static_cast<std::uint32_t>(stored.pixels->height),
            bytes,
            true,
            {},
            static_cast<std::uint8_t>(stored.pixels->channels)};
  }
  const ImageInfo info = read_info(stored.bytes);
  return {static_cast<std::uint32_t>(info.width),
          static_cast<std::uint32_t>(info.height),
          bytes,
          false,
          info.format,
          static_cast<std::uint8_t>(info.channels)};
}

/// Reads samples from several threads.
class Collector {
 public:
  Collector(const Source& source, const StatsOptions& options, const std::function<void(std::int64_t)>& done)
      : source_(source),
        done_(done),
        facts_(source.size()),
        is_decoded_(draw_pixel_samples(source.size(), options.pixel_samples)) {
    in_threads(options.threads, source.size(), [this](std::int64_t index) { take(index); });
  }

  SetStats stats() {
    SetStats stats;
    stats.samples = source_.size();
    for (std::int64_t i = 0; i < source_.size(); ++i) ++stats.classes[source_.label(i)];
    for (const auto& [index, reason] : unreadable_) stats.unreadable.push_back(reason);
    std::erase_if(facts_, [](const Facts& facts) { return facts.width == 0; });
    for (const Facts& facts : facts_) {
      ++stats.formats[format_name(facts)];
      ++stats.channels[channels_name(facts)];
      stats.total_bytes += facts.bytes;
    }
    stats.width_px = spread([](const Facts& facts) { return facts.width; });
    stats.height_px = spread([](const Facts& facts) { return facts.height; });
    stats.shorter_px = spread([](const Facts& facts) { return std::min(facts.width, facts.height); });
    stats.megapixels = spread([](const Facts& facts) { return 1e-6 * facts.width * facts.height; });
    stats.bytes = spread([](const Facts& facts) { return facts.bytes; });
    write_moments(sums_, stats);
    return stats;
  }

 private:
  void take(std::int64_t index) {
    Facts facts;
    PixelSums sums;
    std::string problem;
    try {
      look_at(index, facts, sums);
    } catch (const DataError& error) {
      facts = {};
      problem = error.what();
    }
    const std::lock_guard lock(mutex_);
    facts_[index] = facts;
    sums_.add(sums);
    if (!problem.empty()) unreadable_[index] = problem;
    ++num_done_;
    if (done_) done_(num_done_);
  }

  void look_at(std::int64_t index, Facts& facts, PixelSums& sums) const {
    thread_local ByteBuffer buffer;
    thread_local Image image;
    const StoredImage stored = source_.read(index, buffer);
    naming(source_, index, [&] {
      facts = facts_of(stored);
      if (!is_decoded_[index]) return;
      decode(stored, {0, 0, facts.height, facts.width}, facts.channels < 3 ? 1 : 3, image);
      sums = sums_of(image);
    });
  }

  template <class Value>
  Spread spread(const Value& value_of) const {
    if (facts_.empty()) return {};
    std::vector<double> values(facts_.size());
    std::ranges::transform(facts_, values.begin(), value_of);
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
    std::ranges::nth_element(values, middle);
    const auto [min, max] = std::ranges::minmax(values);
    return {min, *middle, max};
  }

  const Source& source_;
  const std::function<void(std::int64_t)>& done_;
  std::vector<Facts> facts_;
  std::vector<bool> is_decoded_;
  std::mutex mutex_;
  std::map<std::int64_t, std::string> unreadable_;
  PixelSums sums_;
  std::int64_t num_done_ = 0;
};

}  // namespace

SetStats collect_stats(const Source& source, const StatsOptions& options,
                       const std::function<void(std::int64_t)>& done) {
  return Collector(source, options, done).stats();
}

}  // namespace cosub::data
