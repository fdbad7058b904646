#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "common/error.h"
#include "common/process.h"
#include "launcher/commands/command.h"

namespace cosub::commands {

bool is_worker_command(const std::string& name) {
  static constexpr std::array<std::string_view, 5> kNames = {"bench", "data", "eval", "export", "model"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

void exec_worker(const std::vector<std::string>& arguments) {
  const std::string program = (executable_folder() / "cosub-worker").string();
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  throw IoError(fmt::format(
      "cannot run {}: {}. It belongs beside cosub: build the target cosub-worker, or install again", program,
      std::strerror(errno)));
}

}  // namespace cosub::commands
