// Models without weights: as torch.device('meta') does in Python, which LibTorch lacks. To know a model's
// tensors by name and shape, neither its memory nor the time to fill it is needed.
#pragma once

#include <c10/core/impl/LocalDispatchKeySet.h>

#include <cstdint>

namespace cosub::tools {

/// While one lives, what this thread creates (zeros, empty, arange ...) is on the meta device: it has a shape
/// and no numbers. ConfigError when all of it together would need more than `limit_bytes`. One at a time.
class Weightless {
 public:
  explicit Weightless(std::int64_t limit_bytes);
  ~Weightless();
  Weightless(const Weightless&) = delete;
  Weightless& operator=(const Weightless&) = delete;

 private:
  c10::impl::IncludeDispatchKeyGuard guard_;
};

}  // namespace cosub::tools
