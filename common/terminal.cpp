#include "common/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cmath>

namespace cosub {
namespace {

constexpr int kBarCells = 24;

bool starts_code_point(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

}  // namespace

std::string painted(const std::string& text, const char* code, bool colour) {
  return colour ? fmt::format("\033[{}m{}\033[0m", code, text) : text;
}

std::string progress_bar(double share, bool colour) {
  const int filled = static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * kBarCells));
  std::string done, left;
  for (int i = 0; i < filled; ++i) done += "━";
  for (int i = filled; i < kBarCells; ++i) left += "─";
  return painted(done, "36", colour) + painted(left, "2", colour);
}

std::size_t terminal_columns(int descriptor) {
  winsize size{};
  return ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string fitting(const std::string& plain, const std::string& coloured, std::size_t columns) {
  if (static_cast<std::size_t>(std::count_if(plain.begin(), plain.end(), starts_code_point)) < columns) {
    return coloured;
  }
  std::size_t shown = 0, end = 0;
  for (; end < plain.size(); ++end) {
    if (starts_code_point(plain[end]) && ++shown == columns) break;
  }
  return plain.substr(0, end);
}

}  // namespace cosub
