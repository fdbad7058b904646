// cosub-worker: one MPI rank of a job, and the tools that need a model or samples. Parses the command line,
// runs one subcommand, maps what went wrong to the exit codes of common/exit_code.h.
#include <c10/util/Exception.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "common/error.h"
#include "common/log.h"
#include "common/process.h"
#include "common/version.h"
#include "worker/tools/bench_commands.h"
#include "worker/tools/data_commands.h"
#include "worker/tools/eval.h"
#include "worker/tools/export.h"
#include "worker/tools/gradients.h"
#include "worker/tools/model_check.h"
#include "worker/tools/model_forward.h"
#include "worker/tools/model_info.h"
#include "worker/tools/model_step.h"
#include "worker/tools/number_check.h"
#include "worker/tools/trim.h"
#include "worker/tools/which_weights.h"
#include "worker/train/stage_runner.h"
#include "worker/train/stop_flag.h"

namespace {

using cosub::ExitCode;
using Chosen = std::function<ExitCode()>;

constexpr const char* kDescription =
    "cosub-worker runs one stage of a pipeline as one MPI rank, or evaluates and exports models.\n\n"
    "Usually `cosub run` starts it. By hand, without any coordinator:\n"
    "  cosub-worker run runs/NAME/STAGE/stage.yaml                   one process\n"
    "  mpirun -n 4 --bind-to none cosub-worker run .../stage.yaml    four ranks; same numbers\n"
    "SIGUSR1 or SIGTERM: finishes the step, writes a checkpoint, exits 75; the same command goes on from "
    "there.\n"
    "Exit codes: 0 complete, 75 stopped and can go on, 78 bad input, 64 wrong usage, 1 failed.";

/// This rank's stdout and stderr go to attempts/N/rank-K.log from here on.
void log_to_attempt_folder(const std::filesystem::path& folder) {
  if (folder.empty()) return;
  std::string file = (folder / fmt::format("rank-{}.log", cosub::train::rank_from_environment())).string();
  int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor < 0)
    throw cosub::IoError(fmt::format("--attempt-folder: cannot write {}: {}", file, std::strerror(errno)),
                         errno);
  for (int standard : {STDOUT_FILENO, STDERR_FILENO})
    if (::dup2(descriptor, standard) < 0)
      throw cosub::IoError(fmt::format("cannot redirect output to {}: {}", file, std::strerror(errno)),
                           errno);
  ::close(descriptor);
}

void add_run(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<cosub::train::RunOptions>();
  CLI::App* run = app.add_subcommand("run", "Run the task of a stage: classify, evaluate or export");
  run->alias("train");
  run->add_option("stage", options->stage_yaml, "STAGE/stage.yaml, as `cosub run` writes it")->required();
  run->add_option("--attempt-folder", options->attempt_folder,
                  "STAGE/attempts/N of a supervised attempt: identity, token, logs and status live there");
  run->callback([options, &chosen] {
    chosen = [options] {
      log_to_attempt_folder(options->attempt_folder);
      return cosub::train::run_stage(*options);
    };
  });
}

/// Options of eval and trim alike.
template <class Options>
void add_calibration(CLI::App& app, Options& options) {
  app.add_option("--recalibrate-bn", options.recalibrate_bn,
                 "estimate BatchNorm's statistics anew for each submodel, from this many calibration images")
      ->check(cosub::tools::whole_at_least(0));
  cosub::tools::add_source(app, options.calibration, "--calibration-");
}

void add_eval(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<cosub::tools::EvalOptions>();
  CLI::App* eval = app.add_subcommand("eval", "Accuracy of an exported model or a checkpoint");
  eval->add_option("--weights", options->weights,
                   "exported folder, checkpoint folder (.../checkpoints/step-...), or .safetensors file with "
                   "config.json beside it")
      ->required();
  cosub::tools::add_which(*eval, options->which);
  cosub::tools::add_source(*eval, options->source);
  eval->add_option(
      "--keep", options->keep,
      "evaluate a submodel that keeps these blocks: all, even, odd, first:N, last:N, or 0,2,5; repeatable");
  eval->add_option_function<std::vector<std::string>>(
          "--submodel",
          [options](const std::vector<std::string>& submodels) {
            for (const std::string& text : submodels)
              options->keep.push_back(text.substr(text.find('=') + 1));
          },
          "the same, written keep=even")
      ->check([](const std::string& text) {
        return text.starts_with("keep=") ? "" : "must be keep=BLOCKS, as in keep=even";
      });
  eval->add_option(
          "--branch-scale", options->branch_scales,
          "of a submodel's kept branches: 1, or 'train' for 1 / (1 - drop rate) as in training; repeatable")
      ->check(CLI::IsMember({"1", "train"}));
  add_calibration(*eval, *options);
  eval->add_option("--image-size", options->image_size, "pixels; default: the model's own")
      ->check(cosub::tools::whole_at_least(1));
  eval->add_option("--crop-ratio", options->crop_ratio,
                   "side of the centre crop over the resized shorter side; default: the model's own")
      ->check(cosub::tools::number_in(cosub::config::share_above_zero()));
  eval->add_option("--threads", options->threads, "CPU threads")->check(cosub::tools::whole_at_least(1));
  eval->add_flag("--json", options->json, "one JSON object instead of a table");
  eval->footer(
      "Example: cosub eval --weights runs/quickstart/export/model --images t10k-images-idx3-ubyte.gz \\\n"
      "                    --labels t10k-labels-idx1-ubyte.gz --keep all --keep even\n"
      "         cosub eval --weights MODEL --folder /data/imagenet/val --threads 8");
  eval->callback([options, &chosen] { chosen = [options] { return cosub::tools::run_eval(*options); }; });
}

void add_export(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<cosub::tools::ExportOptions>();
  CLI::App* sub = app.add_subcommand("export", "Write a checkpoint as a folder that timm loads");
  sub->add_option("--checkpoint", options->checkpoint, ".../checkpoints/step-...")->required();
  sub->add_option("--output", options->output, "folder to write; must not exist")->required();
  cosub::tools::add_which(*sub, options->which);
  sub->callback([options, &chosen] { chosen = [options] { return cosub::tools::run_export(*options); }; });
}

void add_trim(CLI::App& model, Chosen& chosen) {
  auto options = std::make_shared<cosub::tools::TrimOptions>();
  CLI::App* sub =
      model.add_subcommand("trim", "Write a submodel as a model of its own, its dropped blocks gone");
  sub->add_option("--weights", options->weights,
                  "exported folder, checkpoint folder, or .safetensors file with config.json beside it")
      ->required();
  cosub::tools::add_which(*sub, options->which);
  sub->add_option("--keep", options->keep, "the blocks that stay: even, odd, first:N, last:N, or 0,2,5")
      ->required();
  sub->add_option("--output", options->output, "folder to write; must not exist")->required();
  sub->add_option("--branch-scale", options->branch_scale,
                  "1, or 'train': the factor of training, folded into the last affine map of each branch")
      ->check(CLI::IsMember({"1", "train"}));
  add_calibration(*sub, *options);
  sub->footer(
      "Example: cosub model trim --weights runs/quickstart/export/model --keep first:6 --output small");
  sub->callback([options, &chosen] { chosen = [options] { return cosub::tools::run_trim(*options); }; });
}

void add_gradients(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<cosub::tools::GradientsOptions>();
  CLI::App* sub = app.add_subcommand("gradients", "The reduced gradients of the step after a checkpoint");
  sub->add_option("--stage", options->stage_yaml, "STAGE/stage.yaml of the run")->required();
  sub->add_option("--checkpoint", options->checkpoint, ".../checkpoints/step-...")->required();
  sub->add_option("--output", options->output, "safetensors file to write; must not exist")->required();
  sub->add_option("--reduction", options->reduction, "ordered or fast; default: the stage's")
      ->check(CLI::IsMember({"ordered", "fast"}));
  sub->footer(
      "Under mpirun with any number of ranks: the same step of the same state, to compare the results.");
  sub->callback([options, &chosen] { chosen = [options] { return cosub::tools::run_gradients(*options); }; });
}

/// The tools below `model` parse their own arguments.
bool run_model_tool(int argc, char** argv, int& code) {
  static const std::map<std::string_view, int (*)(int, char**)> kTools = {
      {"list", cosub::run_model_list}, {"info", cosub::run_model_info},
      {"init", cosub::run_model_init}, {"check", cosub::run_model_check},
      {"step", cosub::run_model_step}, {"forward", cosub::run_model_forward}};
  if (argc < 3 || std::string_view(argv[1]) != "model") return false;
  const auto tool = kTools.find(argv[2]);
  if (tool == kTools.end()) return false;
  code = tool->second(argc - 2, argv + 2);
  return true;
}

int run(int argc, char** argv) {
  int code = 0;
  if (run_model_tool(argc, argv, code)) return code;
  CLI::App app{kDescription, "cosub-worker"};
  app.set_version_flag("--version", cosub::kVersion);
  app.require_subcommand(1);
  Chosen chosen;
  add_run(app, chosen);
  add_eval(app, chosen);
  add_export(app, chosen);
  add_gradients(app, chosen);
  cosub::tools::add_bench_commands(app, chosen);
  cosub::tools::add_data_commands(app, chosen);
  CLI::App* model =
      app.add_subcommand("model", "Models by name, their cost, and their numbers on recorded tensors");
  model->add_subcommand("list", "Names; see `model list --help`");
  model->add_subcommand("info", "Size, cost and blocks of a model; see `model info --help`");
  model->add_subcommand("init", "Initial weights; see `model init --help`");
  model->add_subcommand("check", "Whether a pipeline's models can be built; see `model check --help`");
  model->add_subcommand("step", "Loss and gradients of a recorded microbatch; see `model step --help`");
  model->add_subcommand("forward", "Logits and features; see `model forward --help`");
  add_trim(*model, chosen);
  model->require_subcommand(1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  }
  return static_cast<int>(chosen());
}

}  // namespace

int main(int argc, char** argv) {
  // A rank must not outlive its launcher: the next attempt waits until no process of this one is left.
  if (cosub::train::started_by_mpi() && !cosub::die_with_parent())
    return static_cast<int>(ExitCode::kFailure);
  cosub::init_logging("worker");
  try {
    if (argc > 1 && (std::string_view(argv[1]) == "run" || std::string_view(argv[1]) == "train"))
      cosub::train::install_stop_handlers();
    return run(argc, argv);
  } catch (const cosub::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return static_cast<int>(error.exit_code());
  } catch (const c10::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what_without_backtrace());
    return static_cast<int>(ExitCode::kFailure);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return static_cast<int>(ExitCode::kFailure);
  }
}
