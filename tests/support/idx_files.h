// IDX files (worker/data/idx_source.h) for tests: raw ones with any header, and a toy set that a small model
// learns.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace cosub::testing {

/// The bytes of an IDX file: header for `shape` (unsigned bytes), then `bytes` as they are, however many.
std::string idx_bytes(const std::vector<std::uint32_t>& shape, const std::vector<std::uint8_t>& bytes);

/// Writes `content` to `path`, gzip-compressed where the name ends in .gz. Replaces what is there.
void write_maybe_gzip(const std::filesystem::path& path, const std::string& content);

/// `samples` images of `size_px` x `size_px`, one channel. Class c is a fixed pattern of `classes` ones, made
/// of smooth blobs; a sample is its class's pattern, moved by up to two pixels, plus noise. The patterns
/// depend on `seed` alone, so that sets with equal seed and another `first_sample` are train and validation
/// of one task.
struct ToySet {
  std::int64_t classes = 4;
  std::int64_t samples = 256;
  std::int64_t size_px = 14;
  std::int64_t first_sample = 0;
  std::uint64_t seed = 1;
  double noise = 40;  // standard deviation, of 255
  bool compressed = true;
};

struct ToyFiles {
  std::filesystem::path images, labels;
};

/// Writes PREFIX-images-idx3-ubyte[.gz] and PREFIX-labels-idx1-ubyte[.gz] into `folder` and returns their
/// paths. Labels go round: sample i has label i % classes.
ToyFiles write_toy_set(const std::filesystem::path& folder, const std::string& prefix, const ToySet& set);

}  // namespace cosub::testing
