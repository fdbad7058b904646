// Many faults told at once, without flooding whoever reads them.
#pragma once

#include <string>
#include <vector>

namespace cosub {

inline constexpr std::size_t kFirstFew = 10;

/// The lines, or the first ten and "and N more".
std::vector<std::string> first_few(std::vector<std::string> lines);

/// These, one below the other.
std::string first_few_lines(std::vector<std::string> lines);

}  // namespace cosub
