// Decoded images kept in memory, for sets that are read many times by more processor than there is. Holds the
// first images that are put into it until it is full: in the random order of an epoch no other choice would
// be found more often. Thread-safe; what is found stays valid while it is held.
#pragma once

#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <unordered_map>

#include "worker/data/image/image.h"

namespace cosub::data {

class ImageCache {
 public:
  /// 0 bytes: holds nothing.
  explicit ImageCache(std::int64_t max_bytes) : max_bytes_(max_bytes) {}
  /// nullptr when it is not there.
  std::shared_ptr<const Image> find(std::int64_t index) const;
  /// A copy of the image, where there is still room for it.
  void put(std::int64_t index, const Image& image);
  std::int64_t bytes() const;

 private:
  const std::int64_t max_bytes_;
  mutable std::shared_mutex mutex_;
  std::int64_t bytes_ = 0;
  std::unordered_map<std::int64_t, std::shared_ptr<const Image>> images_;
};

}  // namespace cosub::data
