// Where samples come from. A Source is opened once by each rank, shared by its loader threads and never
// changed.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>

#include "common/config/pipeline.h"

namespace cosub::data {

/// Decoded samples by index. Thread-safe for reading.
class Source {
 public:
  virtual ~Source() = default;
  virtual std::int64_t size() const = 0;
  virtual std::int64_t channels() const = 0;
  virtual std::int64_t label(std::int64_t index) const = 0;
  /// uint8 [C, H, W], not to be written to; DataError naming file and sample when it cannot be decoded.
  virtual at::Tensor image(std::int64_t index) const = 0;
};

/// Opens what the config names; checks labels against `classes`. Blocks while it reads. DataError (file, what
/// was found, what is expected, remedy) on missing or bad content, IoError when a file cannot be read just
/// now.
std::unique_ptr<Source> open_source(const config::SourceConfig& config, std::int64_t classes);

}  // namespace cosub::data
