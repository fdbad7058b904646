// What a live line on a terminal is made of. Pure, but for the terminal's width.
#pragma once

#include <cstddef>
#include <string>

namespace cosub {

/// `text` in an ANSI colour ("36": cyan), or as it is.
std::string painted(const std::string& text, const char* code, bool colour);

/// "━━━━━━━━━━━─────────────", 24 cells, for a share in 0 to 1.
std::string progress_bar(double share, bool colour);

std::size_t terminal_columns(int descriptor);  // 80 where it is no terminal

/// `coloured` where its text, given without colours as `plain`, is shorter than `columns`; else the first
/// `columns - 1` characters of `plain`: a live line must not wrap, or erasing it would leave pieces behind.
std::string fitting(const std::string& plain, const std::string& coloured, std::size_t columns);

}  // namespace cosub
