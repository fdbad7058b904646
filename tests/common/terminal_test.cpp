// Lines on a terminal: a bar per share, and nothing that wraps.
#include "common/terminal.h"

#include <gtest/gtest.h>

#include <string>

namespace cosub {
namespace {

std::string times(int count, const std::string& text) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

TEST(Terminal, BarsFillWithTheShare) {
  EXPECT_EQ(progress_bar(0, false), times(24, "─"));
  EXPECT_EQ(progress_bar(0.5, false), times(12, "━") + times(12, "─"));
  EXPECT_EQ(progress_bar(1, false), times(24, "━"));
  EXPECT_EQ(progress_bar(7, false), times(24, "━"));
  EXPECT_EQ(progress_bar(-1, false), times(24, "─"));
}

TEST(Terminal, LinesThatWouldWrapAreCutWithoutColours) {
  const std::string coloured = painted("━━━━", "36", true);
  EXPECT_EQ(coloured, "\033[36m━━━━\033[0m");
  EXPECT_EQ(fitting("━━━━", coloured, 5), coloured);
  EXPECT_EQ(fitting("━━━━", coloured, 4), "━━━");
  EXPECT_EQ(fitting("", "", 1), "");
}

TEST(Terminal, WhatIsNoTerminalHas80Columns) {
  EXPECT_EQ(terminal_columns(-1), 80u);
}

}  // namespace
}  // namespace cosub
