// A short program run for what it says.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace cosub::commands {

struct ProgramOutput {
  bool ran = false;    // and ended within the limit
  int code = -1;       // 128 + signal for a death
  std::string output;  // stdout
  std::string errors;  // stderr; why it could not be started where it was not
};

/// Blocks until it ends; killed at the limit, and when this process dies.
ProgramOutput run_program(const std::vector<std::string>& argv, std::chrono::seconds limit);

}  // namespace cosub::commands
