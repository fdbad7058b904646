#include "tests/support/idx_files.h"

#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <stdexcept>

#include "common/random.h"

namespace cosub::testing {
namespace {

constexpr int kBlobs = 4;
constexpr std::int64_t kMove = 2;

struct Blob {
  double x, y, radius, height;
};

std::vector<Blob> pattern_of(const ToySet& set, std::int64_t label) {
  KeyedRandom random(set.seed, Purpose::kTest, 0, static_cast<std::uint64_t>(label));
  std::vector<Blob> blobs(kBlobs);
  const auto side = static_cast<double>(set.size_px);
  for (Blob& blob : blobs) {
    blob = {.x = side * (0.15 + 0.7 * random.uniform()),
            .y = side * (0.15 + 0.7 * random.uniform()),
            .radius = side * (0.08 + 0.1 * random.uniform()),
            .height = 120 + 100 * random.uniform()};
  }
  return blobs;
}

void draw_sample(const ToySet& set, const std::vector<Blob>& pattern, std::int64_t sample,
                 std::uint8_t* pixels) {
  KeyedRandom random(set.seed, Purpose::kTest, 1, static_cast<std::uint64_t>(sample));
  const double dx = static_cast<double>(random.uniform_int(2 * kMove + 1)) - kMove;
  const double dy = static_cast<double>(random.uniform_int(2 * kMove + 1)) - kMove;
  for (std::int64_t y = 0; y < set.size_px; ++y) {
    for (std::int64_t x = 0; x < set.size_px; ++x) {
      double value = set.noise * random.normal();
      for (const Blob& blob : pattern) {
        const double u = (static_cast<double>(x) - dx - blob.x) / blob.radius;
        const double v = (static_cast<double>(y) - dy - blob.y) / blob.radius;
        value += blob.height * std::exp(-0.5 * (u * u + v * v));
      }
      *pixels++ = static_cast<std::uint8_t>(std::clamp(value, 0.0, 255.0));
    }
  }
}

}  // namespace

std::string idx_bytes(const std::vector<std::uint32_t>& shape, const std::vector<std::uint8_t>& bytes) {
  std::string out{'\0', '\0', '\x08', static_cast<char>(shape.size())};
  for (const std::uint32_t extent : shape) {
    for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(extent >> shift & 0xff);
  }
  out.append(bytes.begin(), bytes.end());
  return out;
}

void write_maybe_gzip(const std::filesystem::path& path, const std::string& content) {
  if (path.extension() != ".gz") {
    std::ofstream file(path, std::ios::binary);
    file << content;
    if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
    return;
  }
  gzFile file = gzopen(path.c_str(), "wb1");
  if (file == nullptr) throw std::runtime_error("cannot write " + path.string());
  const int written = gzwrite(file, content.data(), static_cast<unsigned>(content.size()));
  if (gzclose(file) != Z_OK || written != static_cast<int>(content.size())) {
    throw std::runtime_error("cannot write " + path.string());
  }
}

ToyFiles write_toy_set(const std::filesystem::path& folder, const std::string& prefix, const ToySet& set) {
  std::filesystem::create_directories(folder);
  std::vector<std::vector<Blob>> patterns;
  for (std::int64_t label = 0; label < set.classes; ++label) patterns.push_back(pattern_of(set, label));
  const std::int64_t area = set.size_px * set.size_px;
  std::vector<std::uint8_t> pixels(set.samples * area), labels(set.samples);
  for (std::int64_t i = 0; i < set.samples; ++i) {
    std::filesystem::create_directories(folder);
    const std::int64_t sample = set.first_sample + i, label = sample % set.classes;
    draw_sample(set, patterns[label], sample, pixels.data() + i * area);
    labels[i] = static_cast<std::uint8_t>(label);
  }
  const std::string suffix = set.compressed ? ".gz" : "";
  const ToyFiles files{folder / (prefix + "-images-idx3-ubyte" + suffix),
                       folder / (prefix + "-labels-idx1-ubyte" + suffix)};
  const auto n = static_cast<std::uint32_t>(set.samples), side = static_cast<std::uint32_t>(set.size_px);
  write_maybe_gzip(files.images, idx_bytes({n, side, side}, pixels));
  write_maybe_gzip(files.labels, idx_bytes({n}, labels));
  return files;
}

}  // namespace cosub::testing
