// A sample's picture, as the transforms start from it: read from its source, and where the config says so
// made smaller once and kept in memory. One for each source and rank, shared by its loader threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "common/config/pipeline.h"
#include "worker/data/image_cache.h"
#include "worker/data/prefetch.h"
#include "worker/data/source.h"

namespace cosub::data {

/// A thread's own buffers, used again for one image after another.
struct ImageBuffers {
  ByteBuffer stored;
  Image picture;  // decoded before it is known which part is wanted
  Image a, b;
  std::shared_ptr<const Image> cached;  // holds on to what the cache gave
};

class PictureReader {
 public:
  /// The source must outlive it.
  PictureReader(const Source& source, const config::DataConfig& data);

  /// What is returned lives until `buffers` are used again. A read that fails is
  /// tried three times. Errors as Source::read; DataError when the picture must be decoded here and cannot
  /// be.
  StoredImage read(std::int64_t index, ImageBuffers& buffers, Activity& activity) const;

  /// Does `work` on what was read; a DataError from it gets the sample's name in front. That may have to be
  /// read (a shard's index has no names): as `activity`, and once for each sample that has one.
  void naming(std::int64_t index, Activity& activity, const std::function<void()>& work) const;

 private:
  std::string name_of(std::int64_t index, Activity& activity) const;
  StoredImage read_with_retries(std::int64_t index, ImageBuffers& buffers, Activity& activity) const;
  void decode_and_shrink(const StoredImage& stored, ImageBuffers& buffers) const;

  const Source& source_;
  const std::int64_t shrink_px_;
  const config::Interpolation interpolation_;
  const bool keeps_;
  mutable ImageCache cache_;
  mutable std::mutex names_mutex_;
  mutable std::unordered_map<std::int64_t, std::string> names_;  // of bad samples
};

}  // namespace cosub::data
