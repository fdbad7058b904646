// MNIST's file format, plain or gzip-compressed, the whole set in memory. Layout (yann.lecun.com/exdb/mnist):
//   bytes 0-1  zero        byte 2  type, 0x08 = unsigned byte        byte 3  number of dimensions
//   then one big-endian uint32 per dimension, then the bytes, last dimension fastest
// Images have 3 dimensions [N, H, W] (one channel) or, as our own extension for colour, 4 [N, C, H, W];
// labels have 1.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "worker/data/source.h"

namespace cosub::data {

struct IdxFile {
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> bytes;  // as many as shape says
};

/// Reads a whole file. DataError when its content is not exactly what its header announces, IoError when the
/// system refuses to read it.
IdxFile read_idx(const std::filesystem::path& path);

/// `limit`: only the first N samples, 0 for all. Errors as open_source.
std::unique_ptr<Source> open_idx_source(const config::IdxSource& files, std::int64_t limit,
                                        std::int64_t classes);

}  // namespace cosub::data
