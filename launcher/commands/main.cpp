// The cosub program: parses the command line and runs one subcommand.
#include <fmt/format.h>

#include <cstdio>

#include "common/error.h"
#include "common/log.h"
#include "common/version.h"
#include "launcher/commands/command.h"

namespace {

constexpr const char* kDescription =
    "cosub trains vision backbones by co-training submodels, on one machine or a cluster.\n"
    "\n"
    "First steps:\n"
    "  cosub doctor                                 is everything here that a run needs?\n"
    "  cosub run configs/quickstart.yaml --dry-run  what would run, without running it\n"
    "  cosub run configs/quickstart.yaml            train, fine-tune, evaluate, export; Ctrl-C is safe\n"
    "  cosub status quickstart                      what became of it";

constexpr const char* kFooter =
    "Commands on samples and weights (each has its own --help):\n"
    "  bench                       Speed and memory of training steps, all-reduce and optimizers\n"
    "  data                        Pack samples into tar shards, index, check and count them\n"
    "  eval                        Accuracy of an exported model or a checkpoint, and of its submodels\n"
    "  export                      A checkpoint as a folder that timm loads\n"
    "  model                       Models by name, their cost, submodels as models, numbers on recorded "
    "tensors\n"
    "\n"
    "Exit codes: 0 done; 75 stopped, the same command goes on; 78 bad input, named; 64 wrong usage; 1 "
    "failed.";

int run(int argc, char** argv) {
  if (argc > 1 && cosub::commands::is_worker_command(argv[1])) {
    cosub::commands::exec_worker({argv + 1, argv + argc});
  }
  CLI::App app{kDescription, "cosub"};
  app.footer(kFooter);
  app.set_version_flag("--version", cosub::kVersion);
  app.require_subcommand(1);
  cosub::commands::Chosen chosen;
  cosub::commands::add_run(app, chosen);
  cosub::commands::add_submit(app, chosen);
  cosub::commands::add_status(app, chosen);
  cosub::commands::add_watch(app, chosen);
  cosub::commands::add_cancel(app, chosen);
  cosub::commands::add_doctor(app, chosen);
  const auto is_named = [&](const CLI::App* command) { return command->check_name(argv[1]); };
  if (argc > 1 && argv[1][0] != '-' && app.get_subcommands(is_named).empty()) {
    fmt::print(stderr, "error: cosub has no command '{}'; `cosub --help` lists those it has\n", argv[1]);
    return static_cast<int>(cosub::ExitCode::kUsage);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : static_cast<int>(cosub::ExitCode::kUsage);
  }
  return chosen.run();
}

}  // namespace

int main(int argc, char** argv) {
  cosub::init_logging("cosub");
  try {
    return run(argc, argv);
  } catch (const cosub::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return static_cast<int>(cosub::ExitCode::kFailure);
  }
}
