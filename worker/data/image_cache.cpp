#include "worker/data/image_cache.h"

#include <algorithm>
#include <mutex>

namespace cosub::data {
namespace {

constexpr std::int64_t kEntryBytes = 160;  // an entry's own memory: map node, counts, Image

}  // namespace

std::shared_ptr<const Image> ImageCache::find(std::int64_t index) const {
  if (max_bytes_ == 0) return nullptr;
  const std::shared_lock lock(mutex_);
  const auto found = images_.find(index);
  return found == images_.end() ? nullptr : found->second;
}

void ImageCache::put(std::int64_t index, const Image& image) {
  const std::int64_t image_bytes = image.height * image.row_bytes(), needed = image_bytes + kEntryBytes;
  {
    const std::unique_lock lock(mutex_);
    if (bytes_ + needed > max_bytes_ || images_.contains(index)) return;
    bytes_ += needed;  // the copy is made outside the lock
  }
  auto copy = std::make_shared<Image>();
  copy->reshape(image.height, image.width, image.channels);
  std::copy_n(image.pixels.data(), image_bytes, copy->pixels.data());
  const std::unique_lock lock(mutex_);
  if (!images_.emplace(index, std::move(copy)).second) bytes_ -= needed;  // another thread was faster
}

std::int64_t ImageCache::bytes() const {
  const std::shared_lock lock(mutex_);
  return bytes_;
}

}  // namespace cosub::data
