// A data set written as tar shards in WebDataset's convention with their index: what `cosub data pack` does,
// but for the images themselves. Beside the files of pack_folder.h:
//
//   NNNNNN.tar        of each sample KEY.cls, its class's number, and KEY.jpg (.png, .ppm, .pgm); KEY is the
//                     sample's number in the source, nine digits
//   classes.txt       the classes' names by number, where the source has names
//   shards.index      as `cosub data index` writes it
//   bad_samples.txt   what was left out and why, where anything was
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "worker/data/source.h"

namespace cosub::data {

struct PackOptions {
  std::filesystem::path output;
  std::int64_t samples_per_shard = 10000;
  std::int64_t shorter_px = 0;  // larger images are resized to this shorter side; 0: none is
  int quality = 95;             // of JPEGs that are written anew
  double raw_share = 0;         // of the samples, stored as pixels
  bool is_shuffled = true;      // by `seed`; else in the source's order
  std::uint64_t seed = 0;
  // What the bytes do not depend on, so that it may change when a call goes on.
  std::int64_t threads = 1;
  double max_bad_share = 0.01;
};

enum class StoredAs { kItIs, kReencoded, kPixels };

struct PackedImage {
  std::string extension;  // jpg, png, ppm, pgm
  std::vector<std::uint8_t> bytes;
  StoredAs how = StoredAs::kItIs;
};

struct PackProgress {
  std::int64_t samples = 0, of = 0;  // packed or left out, by this call and earlier ones
  std::int64_t samples_now = 0;      // by this call
  std::uint64_t bytes_now = 0;       // of images, by this call
  std::int64_t bad = 0;
};

struct PackSummary {
  std::int64_t shards = 0, shards_before = 0;  // of them finished by an earlier call
  std::int64_t as_they_are = 0, reencoded = 0, pixels = 0;
  std::uint64_t bytes = 0;        // of all shards
  std::vector<std::string> bad;   // names, reasons and shards, in the order of the shards
  bool has_too_many_bad = false;  // ended early, before the index
  std::int64_t samples() const { return as_they_are + reencoded + pixels; }
};

/// Writes the shards that are not there yet, each whole or not at all; blocks for hours. `make` gives a
/// sample's image, from several threads at once; a DataError from it leaves the sample out. Ends early,
/// keeping the finished shards, once more than max_bad_share of all samples are bad. The result's bytes do
/// not depend on threads or interruptions. ConfigError as PackFolder; IoError says how to go on. `progress`
/// after each sample, on the calling thread; what it throws ends the call as a kill would.
PackSummary pack_shards(const config::SourceConfig& config, const Source& source, const PackOptions& options,
                        const std::function<PackedImage(std::int64_t)>& make,
                        const std::function<void(const PackProgress&)>& progress);

}  // namespace cosub::data
