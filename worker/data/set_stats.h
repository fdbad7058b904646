// What a set of samples looks like: classes, formats, sizes, and the pixels' mean and standard deviation.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "worker/data/source.h"

namespace cosub::data {

struct StatsOptions {
  std::int64_t threads = 1;
  std::int64_t pixel_samples = 10000;  // so many, drawn at random, are decoded for mean and std; 0: all
};

/// The median of an even number of values is the lower of the two in the middle.
struct Spread {
  double min = 0, median = 0, max = 0;
};

struct SetStats {
  std::int64_t samples = 0;
  std::map<std::int64_t, std::int64_t> classes;  // samples of each class that has any, readable or not
  std::vector<std::string> unreadable;           // name and reason, in the order of the source
  // Of those that can be read; a damaged image is only noticed among those that are decoded.
  std::map<std::string, std::int64_t> formats;   // JPEG, PNG, PPM/PGM, pixels (IDX)
  std::map<std::string, std::int64_t> channels;  // grey, grey + alpha, colour, colour + alpha, CMYK
  Spread width_px, height_px, shorter_px, megapixels, bytes;
  std::uint64_t total_bytes = 0;
  // Of the whole decoded images in 0 to 1, each image counting the same whatever its size: mean is the mean
  // of the images' means, std the root of (mean of the images' mean squares - mean^2). One channel where
  // every decoded image is grey, else three, grey ones counting as colour.
  std::int64_t pixel_samples = 0;
  std::vector<double> mean, std;
};

/// Reads every sample once; the result does not depend on `threads`. `done(samples)` after each, from several
/// threads but one at a time. IoError when a sample cannot be read just now.
SetStats collect_stats(const Source& source, const StatsOptions& options,
                       const std::function<void(std::int64_t)>& done);

}  // namespace cosub::data
