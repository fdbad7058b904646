// A sample's image as it goes into a shard.
#pragma once

#include <cstdint>

#include "worker/data/pack_shards.h"

namespace cosub::data {

/// Reads and decodes the sample, so that a damaged one is found now. What needs no change keeps its bytes.
/// Larger than options.shorter_px: resized (bicubic, anti-aliased) and written as JPEG, grey or in colour as
/// it was (4:2:0), without metadata. A share options.raw_share of the samples, drawn by (seed, index), is
/// written as PPM or PGM; so is whatever was stored as pixels. Alpha is dropped where anything is written
/// anew. Thread-safe. DataError and IoError as Source::read, with the sample's name.
PackedImage pack_image(const Source& source, std::int64_t index, const PackOptions& options);

}  // namespace cosub::data
