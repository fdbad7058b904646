// Guides libFuzzer by what the tested code says: a library that was not compiled for fuzzing shows no lines,
// but its error messages tell which of its branches ran.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cosub::fuzz {

/// libFuzzer clears these before each input and keeps an input that sets a new one.
__attribute__((section("__libfuzzer_extra_counters"))) inline std::uint8_t told[4096];

/// What stands before the last colon (whose message it is) and numbers, decimal or hexadecimal, do not make
/// it another one.
inline void tell(std::string_view message) {
  std::size_t hash = 0;
  for (const char c : message.substr(message.rfind(':') + 1)) {
    if (c > 'f' || (c >= 'A' && c <= 'Z')) hash = hash * 31 + static_cast<unsigned char>(c);
  }
  told[hash * 0x9e3779b97f4a7c15u >> 52] = 1;
}

}  // namespace cosub::fuzz
