// The version that every program prints and every run records. Kept in step with CMakeLists.txt by a test.
#pragma once

namespace cosub {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace cosub
