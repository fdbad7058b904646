#include "launcher/commands/program_output.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/process.h"

namespace cosub::commands {

ProgramOutput run_program(const std::vector<std::string>& argv, std::chrono::seconds limit) {
  char name[] = "/tmp/cosub-output-XXXXXX";
  const int fd = mkstemp(name);
  if (fd < 0) return {};
  close(fd);
  ProgramOutput result;
  SpawnOptions options;
  options.argv = argv;
  options.output = name;
  options.die_with_parent = true;
  if (geteuid() == 0)
    options.environment = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"}, {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}};
  try {
    const ProcessId child = spawn(options);
    const auto code = wait_for_exit(child.pid, limit);
    if (!code) send_signal(child, SIGKILL);
    result.ran = code.has_value();
    result.code = code.value_or(-1);
    result.output = read_file(name);
  } catch (const IoError& error) {
    result.output = error.what();
  }
  unlink(name);
  return result;
}

}  // namespace cosub::commands
