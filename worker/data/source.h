// Where samples come from. A Source is opened once by each rank, shared by its loader threads and never
// changed.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "common/config/pipeline.h"
#include "common/error.h"
#include "worker/data/image/image.h"

namespace cosub::data {

/// A sample's picture as it is stored; the bytes are the source's or lie in the buffer it was read into.
struct StoredImage {
  struct Shape {
    std::int64_t height = 0, width = 0, channels = 0;
  };
  std::span<const std::uint8_t> bytes;
  std::optional<Shape> pixels;  // bytes are pixels [height, width, channels]; unset: an encoded file
};

/// What is wrong with many samples alike: with the shard they are in.
class SharedDataError : public DataError {
 public:
  /// `message` names the sample, `cause` what it shares with the others.
  SharedDataError(const std::string& message, std::string cause)
      : DataError(message), cause_(std::move(cause)) {}
  const std::string& cause() const { return cause_; }

 private:
  std::string cause_;
};

/// Stored samples by index. Thread-safe for reading.
class Source {
 public:
  virtual ~Source() = default;
  virtual std::int64_t size() const = 0;
  virtual std::int64_t channels() const = 0;  // of the decoded images: 1 or 3
  virtual std::int64_t label(std::int64_t index) const = 0;
  virtual std::string name(std::int64_t index) const = 0;  // file, or shard and key: for messages
  /// The same as far as it is known without reading anything.
  virtual std::string place(std::int64_t index) const { return name(index); }
  /// `buffer` belongs to the calling thread; what is returned lives until it is used again. DataError when
  /// the sample is damaged or gone (SharedDataError with all of its shard), IoError when it cannot be read
  /// just now; both name it.
  virtual StoredImage read(std::int64_t index, ByteBuffer& buffer) const = 0;
};

/// For open_source: labels up to the largest that a shard can hold.
inline constexpr std::int64_t kAnyLabel = std::numeric_limits<std::int32_t>::max();

/// Opens what the config names, for images of `channels` (1 or 3; 0: not decoded by channels()) and labels
/// below `classes`. Blocks while it reads. DataError (file, what was found, what is expected, remedy) on
/// missing or bad content, IoError when a file cannot be read just now.
std::unique_ptr<Source> open_source(const config::SourceConfig& config, std::int64_t channels,
                                    std::int64_t classes);

/// Does `work` on the sample; a DataError from it gets the sample's name in front.
void naming(const Source& source, std::int64_t index, const std::function<void()>& work);
/// The same with the name that `name` finds, called in that case only.
void naming(const std::function<std::string()>& name, const std::function<void()>& work);

/// What is known of a stored image before it is decoded. DataError, without the sample's name.
StoredImage::Shape shape_of(const StoredImage& stored);

/// The region's pixels with `channels` channels. DataError, without the sample's name.
void decode(const StoredImage& stored, const Region& region, std::int64_t channels, Image& out);

}  // namespace cosub::data
