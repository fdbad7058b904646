#include "worker/tools/data_commands.h"

#include <memory>
#include <thread>

#include "worker/tools/data_index.h"
#include "worker/tools/data_order.h"
#include "worker/tools/data_verify.h"

namespace cosub::tools {
namespace {

using Chosen = std::function<ExitCode()>;

std::int64_t all_cores() {
  return std::max<std::int64_t>(1, std::thread::hardware_concurrency());
}

void add_index(CLI::App& data, Chosen& chosen) {
  auto options = std::make_shared<DataIndexOptions>();
  options->index.threads = all_cores();
  CLI::App* sub =
      data.add_subcommand("index", "Write where every sample of tar shards lies, beside the shards");
  sub->add_option("shards", options->shards, "shards, '/data/{000000..002047}.tar', or their folder")
      ->required();
  sub->add_option("--class-map", options->index.class_map,
                  "class names by number, for labels that are names");
  sub->add_option("--label-field", options->index.label_field, "of KEY.json, where there is no KEY.cls")
      ->capture_default_str();
  sub->add_option("--threads", options->index.threads, "shards read at a time")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_flag("--again", options->index.again, "read shards that have not changed as well");
  sub->footer(
      "Writes shards.index into each folder of shards, 16 bytes a sample; shards that have not changed since "
      "are\n"
      "not read again. Example: cosub data index '/data/in21k/{000000..002047}.tar'");
  sub->callback([options, &chosen] { chosen = [options] { return run_data_index(*options); }; });
}

void add_order(CLI::App& data, Chosen& chosen) {
  auto options = std::make_shared<DataOrderOptions>();
  CLI::App* sub = data.add_subcommand("order", "Which sample goes to which step, microbatch and rank");
  sub->add_option("pipeline", options->pipeline, "pipeline file")->required();
  sub->add_option("--set", options->overrides, "KEY=VALUE, as for cosub run");
  sub->add_option("--stage", options->stage, "default: the first that trains");
  sub->add_option("--step", options->first_step, "the first step")->check(CLI::NonNegativeNumber);
  sub->add_option("--steps", options->num_steps, "how many")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--ranks", options->ranks, "default: cluster.ranks")->check(CLI::PositiveNumber);
  sub->footer("Example: cosub data order configs/quickstart.yaml --step 7 --ranks 2");
  sub->callback([options, &chosen] { chosen = [options] { return run_data_order(*options); }; });
}

/// Where samples come from, for commands without a pipeline.
void add_source(CLI::App& app, config::SourceConfig& source, config::IdxSource& idx) {
  app.add_option("--folder", source.folder, "folder with one sub-folder per class");
  app.add_option("--list", source.list, "samples of the folder: lines 'path label'");
  app.add_option("--shards", source.shards, "tar shards with their index");
  app.add_option("--images", idx.images, "IDX file of images");
  app.add_option("--labels", idx.labels, "IDX file of labels");
  app.add_option("--class-map", source.class_map, "class names by number");
  app.add_option("--limit", source.limit, "only the first N samples")->check(CLI::NonNegativeNumber);
}

void add_verify(CLI::App& data, Chosen& chosen) {
  auto options = std::make_shared<DataVerifyOptions>();
  options->threads = all_cores();
  CLI::App* sub = data.add_subcommand("verify", "Decode every sample and name the bad ones");
  add_source(*sub, options->source, options->idx);
  sub->add_option("--classes", options->classes, "labels must be below; default: any")
      ->check(CLI::PositiveNumber);
  sub->add_option("--channels", options->channels, "1 or 3")
      ->check(CLI::IsMember({1, 3}))
      ->capture_default_str();
  sub->add_option("--threads", options->threads)->check(CLI::PositiveNumber)->capture_default_str();
  sub->footer("Prints one line per bad sample. Exit code 0: all are good, 78: some are bad.");
  sub->callback([options, &chosen] { chosen = [options] { return run_data_verify(*options); }; });
}

}  // namespace

void add_data_commands(CLI::App& app, Chosen& chosen) {
  CLI::App* data = app.add_subcommand("data", "Index, check and list samples");
  add_index(*data, chosen);
  add_verify(*data, chosen);
  add_order(*data, chosen);
  data->require_subcommand(1);
}

}  // namespace cosub::tools
