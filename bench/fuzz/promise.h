// How a fuzzer's target says that the tested code broke its contract.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace cosub::fuzz {

/// A broken promise ends the process, as any exception does that the target does not expect.
inline void promise(bool kept, std::string_view what) {
  if (!kept) throw std::logic_error("broken: " + std::string(what));
}

}  // namespace cosub::fuzz
