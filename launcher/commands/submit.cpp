// cosub submit: hands a pipeline to a long-lived coordinator and returns.
#include <fmt/format.h>

#include "common/config/pipeline.h"
#include "common/error.h"
#include "launcher/commands/command.h"
#include "launcher/commands/connection.h"
#include "launcher/commands/preflight.h"

namespace cosub::commands {

namespace {

struct SubmitOptions {
  std::string file, state;
  std::vector<std::string> overrides;
  bool json = false;
};

int submit(const SubmitOptions& options) {
  auto pipeline = config::load_pipeline(options.file, options.overrides);
  pipeline.runs = std::filesystem::absolute(pipeline.runs);  // the coordinator's folder is another one
  require_ready(pipeline, options.file, options.overrides);
  Connection connection(choose_state_folder(options.state, "", pipeline.runs));
  const auto view = connection.submit(config::to_yaml(pipeline));
  if (options.json) {
    fmt::print("{}\n", protocol::dump(view));
  } else {
    fmt::print("submitted {} to {}; look at it with: cosub watch {}\n", view.name, connection.address(),
               view.name);
  }
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace

void add_submit(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<SubmitOptions>();
  CLI::App* command = app.add_subcommand("submit", "Hand a pipeline to a long-lived coordinator");
  command->footer(
      "The coordinator ('cosub-coordinator --state DIR') runs it whether you stay or not. Submitting the "
      "same file\n"
      "again lets a stopped or failed pipeline go on, also with changed settings as long as they concern "
      "only "
      "stages\n"
      "that have neither a checkpoint nor a result and of which no attempt runs. Data, weights and models of "
      "all "
      "stages are\n"
      "checked first (exit code 78).\n"
      "\n"
      "  cosub submit pipeline.yaml --state ~/.local/state/cosub");
  command->add_option("pipeline", options->file, "Pipeline file (YAML)")->required();
  command->add_option("--set", options->overrides, "Override one key: a.b.c=value; may be repeated")
      ->type_name("KEY=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  command->add_option("--state", options->state,
                      "State folder of the coordinator (default: $COSUB_STATE or ~/.local/state/cosub)");
  command->add_flag("--json", options->json, "Print the pipeline's state as JSON");
  command->callback([options, &chosen] { chosen.run = [options] { return submit(*options); }; });
}

}  // namespace cosub::commands
