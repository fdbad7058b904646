// The loop of `cosub data verify`: every sample is checked once, by several threads.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace cosub::tools {

/// Checks one sample; DataError says what is wrong with it. Used by one thread alone, which may keep buffers
/// in it.
using CheckSample = std::function<void(std::int64_t index)>;

/// What is wrong, by sample, of `count` samples. Blocks; each of the threads calls `make_check` once. Shows
/// progress on stderr. Any other exception of a check ends the loop and is thrown here.
std::map<std::int64_t, std::string> verify_samples(std::int64_t count, std::int64_t threads,
                                                   const std::function<CheckSample()>& make_check);

}  // namespace cosub::tools
