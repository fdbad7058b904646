#include "worker/data/picture_reader.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "common/error.h"
#include "worker/data/resize.h"

namespace cosub::data {
namespace {

constexpr int kTries = 3;
constexpr std::chrono::milliseconds kFirstPause{200};

StoredImage view(const Image& image) {
  const auto bytes = static_cast<std::size_t>(image.height * image.row_bytes());
  return {std::span(image.pixels.data(), bytes),
          StoredImage::Shape{image.height, image.width, image.channels}};
}

std::int64_t cache_bytes(const config::DataConfig& data) {
  return static_cast<std::int64_t>(data.cache_gib * 1024 * 1024 * 1024);
}

}  // namespace

PictureReader::PictureReader(const Source& source, const config::DataConfig& data)
    : source_(source),
      shrink_px_(data.shrink_px),
      interpolation_(data.interpolation),
      keeps_(cache_bytes(data) > 0),
      cache_(cache_bytes(data)) {}

StoredImage PictureReader::read(std::int64_t index, ImageBuffers& buffers, Activity& activity) const {
  if (keeps_) {
    buffers.cached = cache_.find(index);
    if (buffers.cached) return view(*buffers.cached);
  }
  const StoredImage stored = read_with_retries(index, buffers, activity);
  // What lies decoded in memory already is not copied; otherwise a crop is decoded later, as far as needed.
  const bool is_decoded_later = !keeps_ || stored.pixels;
  if (shrink_px_ == 0 && is_decoded_later) return stored;
  naming(index, activity, [&] { decode_and_shrink(stored, buffers); });
  if (keeps_) cache_.put(index, buffers.picture);
  return view(buffers.picture);
}

void PictureReader::naming(std::int64_t index, Activity& activity, const std::function<void()>& work) const {
  data::naming([&] { return name_of(index, activity); }, work);
}

std::string PictureReader::name_of(std::int64_t index, Activity& activity) const {
  {
    const std::lock_guard lock(names_mutex_);
    const auto known = names_.find(index);
    if (known != names_.end()) return known->second;
  }
  std::string name;
  activity.reading(index, [&] { name = source_.name(index); });
  const std::lock_guard lock(names_mutex_);
  return names_.emplace(index, std::move(name)).first->second;
}

StoredImage PictureReader::read_with_retries(std::int64_t index, ImageBuffers& buffers,
                                             Activity& activity) const {
  for (int attempt = 1;; ++attempt) {
    try {
      StoredImage stored;
      activity.reading(index, [&] { stored = source_.read(index, buffers.stored); });
      return stored;
    } catch (const IoError& error) {
      if (attempt == kTries) throw;
      spdlog::warn("{}; trying again", error.what());
      std::this_thread::sleep_for(kFirstPause * attempt);
    }
  }
}

/// Leaves the picture in buffers.picture.
void PictureReader::decode_and_shrink(const StoredImage& stored, ImageBuffers& buffers) const {
  const StoredImage::Shape shape = shape_of(stored);
  decode(stored, {0, 0, shape.height, shape.width}, source_.channels(), buffers.picture);
  if (shrink_px_ == 0 || std::min(shape.height, shape.width) <= shrink_px_) return;
  resize_shorter(buffers.picture, shrink_px_, interpolation_, buffers.a);
  std::swap(buffers.a, buffers.picture);
}

}  // namespace cosub::data
