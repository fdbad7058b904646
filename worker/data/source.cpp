#include "worker/data/source.h"

#include <fmt/format.h>

#include "common/error.h"
#include "worker/data/idx_source.h"
#include "worker/data/image/convert.h"
#include "worker/data/image/decode.h"
#include "worker/data/storage/folder_source.h"
#include "worker/data/storage/shard_source.h"

namespace cosub::data {
namespace {

std::unique_ptr<Source> open_idx(const config::SourceConfig& config, std::int64_t channels,
                                 std::int64_t classes) {
  auto source = open_idx_source(*config.idx, config.limit, classes);
  if (channels == 0 || source->channels() == channels) return source;
  throw ConfigError(fmt::format("{}: its images have {} channel{}; model.channels is {}",
                                config.idx->images.string(), source->channels(),
                                source->channels() == 1 ? "" : "s", channels));
}

}  // namespace

std::unique_ptr<Source> open_source(const config::SourceConfig& config, std::int64_t channels,
                                    std::int64_t classes) {
  if (config.idx) return open_idx(config, channels, classes);
  if (!config.folder.empty()) return open_folder_source(config, channels, classes);
  if (!config.shards.empty()) return open_shard_source(config, channels, classes);
  throw ConfigError("no samples are named: set folder, shards or idx of data.train or data.val");
}

void naming(const Source& source, std::int64_t index, const std::function<void()>& work) {
  naming([&] { return source.name(index); }, work);
}

void naming(const std::function<std::string()>& name, const std::function<void()>& work) {
  try {
    work();
  } catch (const DataError& error) {
    throw DataError(fmt::format("{}: {}", name(), error.what()));
  }
}

StoredImage::Shape shape_of(const StoredImage& stored) {
  if (stored.pixels) return *stored.pixels;
  const ImageInfo info = read_info(stored.bytes);
  return {info.height, info.width, 0};
}

void decode(const StoredImage& stored, const Region& region, std::int64_t channels, Image& out) {
  if (!stored.pixels) return decode(stored.bytes, region, channels, out);
  const StoredImage::Shape& shape = *stored.pixels;
  out.reshape(region.height, region.width, channels);
  for (std::int64_t y = 0; y < region.height; ++y) {
    const std::uint8_t* row =
        stored.bytes.data() + ((region.top + y) * shape.width + region.left) * shape.channels;
    convert_row(row, shape.channels, region.width, channels, out.row(y));
  }
}

}  // namespace cosub::data
