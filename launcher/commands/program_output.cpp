#include "launcher/commands/program_output.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "common/atomic_file.h"
#include "common/descriptor.h"
#include "common/error.h"
#include "common/process.h"

namespace cosub::commands {

namespace {

/// Gone with it.
class TemporaryFile {
 public:
  TemporaryFile() {
    const int fd = mkstemp(name_);
    if (fd < 0) throw io_error("create", name_, errno);
    close(fd);
  }
  ~TemporaryFile() { unlink(name_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const char* name() const { return name_; }

 private:
  char name_[32] = "/tmp/cosub-output-XXXXXX";
};

}  // namespace

ProgramOutput run_program(const std::vector<std::string>& argv, std::chrono::seconds limit) {
  ProgramOutput result;
  try {
    const TemporaryFile output, errors;
    SpawnOptions options;
    options.argv = argv;
    options.output = output.name();
    options.errors = errors.name();
    options.die_with_parent = true;
    if (geteuid() == 0)
      options.environment = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"}, {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}};
    const ProcessId child = spawn(options);
    const auto code = wait_for_exit(child.pid, limit);
    if (!code) send_signal(child, SIGKILL);
    result.ran = code.has_value();
    result.code = code.value_or(-1);
    result.output = read_file(output.name());
    result.errors = read_file(errors.name());
  } catch (const IoError& error) {
    result.errors = error.what();
  }
  return result;
}

}  // namespace cosub::commands
