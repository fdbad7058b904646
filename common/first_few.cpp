#include "common/first_few.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace cosub {

std::vector<std::string> first_few(std::vector<std::string> lines) {
  if (lines.size() <= kFirstFew) return lines;
  const std::size_t others = lines.size() - kFirstFew;
  lines.resize(kFirstFew);
  lines.push_back(fmt::format("and {} more", others));
  return lines;
}

std::string first_few_lines(std::vector<std::string> lines) {
  return fmt::format("{}", fmt::join(first_few(std::move(lines)), "\n"));
}

}  // namespace cosub
