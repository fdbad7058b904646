#include "tests/support/whole_system.h"

#include <fmt/format.h>
#include <signal.h>

#include <fstream>
#include <stdexcept>

#include "common/atomic_file.h"
#include "tests/support/idx_files.h"
#include "tests/support/temporary_folder.h"

namespace cosub::testing {

namespace fs = std::filesystem;

fs::path program(const std::string& name) {
  const fs::path path = executable_folder().parent_path() / "bin" / name;
  if (!fs::exists(path))
    throw std::runtime_error(path.string() + " is not built: build the target 'programs' first");
  return path;
}

namespace {

SpawnOptions spawn_options(const std::vector<std::string>& argv, const fs::path& output,
                           const ProgramOptions& options) {
  SpawnOptions spawning;
  spawning.argv = argv;
  spawning.environment = options.environment;
  spawning.unset = options.unset;
  spawning.working_directory = options.working_directory;
  spawning.output = output;
  spawning.die_with_parent = true;
  return spawning;
}

std::string file_text(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace

ProgramResult run_program(const std::vector<std::string>& argv, const ProgramOptions& options) {
  const TemporaryFolder folder;
  const fs::path output = folder / "output";
  const ProcessId child = spawn(spawn_options(argv, output, options));
  ProgramResult result;
  if (const auto code = wait_for_exit(child.pid, options.limit)) {
    result.exit_code = *code;
  } else {
    send_signal(child, SIGKILL);
    wait_for_exit(child.pid, std::chrono::seconds(10));
  }
  result.output = file_text(output);
  return result;
}

Background::Background(const std::vector<std::string>& argv, const fs::path& output,
                       const ProgramOptions& options)
    : process_(spawn(spawn_options(argv, output, options))), output_(output) {}

Background::~Background() {
  if (exit_code_) return;
  send_signal(process_, SIGKILL);
  wait_for_exit(process_.pid, std::chrono::seconds(10));
}

std::optional<int> Background::wait(std::chrono::milliseconds limit) {
  if (!exit_code_) exit_code_ = wait_for_exit(process_.pid, limit);
  return exit_code_;
}

std::string Background::output() const {
  return file_text(output_);
}

fs::path write_toy_pipeline(const fs::path& folder, const ToyPipeline& options) {
  const fs::path data = folder / "data";
  fs::create_directories(data);
  const std::string train = fmt::format("train{}", options.train_samples),
                    val = fmt::format("val{}", options.val_samples);
  ToySet set;
  set.samples = options.train_samples;
  if (!fs::exists(data / (train + "-labels-idx1-ubyte.gz"))) write_toy_set(data, train, set);
  set.samples = options.val_samples;
  set.first_sample = 1'000'000;
  if (!fs::exists(data / (val + "-labels-idx1-ubyte.gz"))) write_toy_set(data, val, set);

  std::ofstream file(folder / (options.name + ".yaml"));
  file << fmt::format(
      R"(name: {name}
seed: 3
runs: {runs}
cluster: {{backend: mpirun, ranks: {ranks}, backoff: 200ms, backoff_max: 2s, max_restarts: 100, grace: 20s}}
defaults:
  model: {{name: {model}, arch: {arch}, classes: 4, channels: 1, image_size: {size}, drop_rate: 0.125}}
  data:
    train: {{idx: {{images: data/{train}-images-idx3-ubyte.gz, labels: data/{train}-labels-idx1-ubyte.gz}}}}
    val: {{idx: {{images: data/{val}-images-idx3-ubyte.gz, labels: data/{val}-labels-idx1-ubyte.gz}}}}
    augment: {{crop_padding_px: 1, flip: 0.5}}
  cosub: {{lambda: 0.5, loss: ce}}
  optimizer: {{name: adamw, lr: 3e-3, weight_decay: 0.05, clip_norm: 1.0}}
  batch: {{global: {global}, micro: {micro}}}
  ema: 0.9
  reduction: {reduction}
  checkpoint: {{every: 10m, every_steps: {every}, keep: {keep}}}
  log_every_steps: 4
stages:
  - name: pretrain
    task: classify
    schedule: {{name: cosine, epochs: {pretrain}, warmup_epochs: 0.25}}
  - name: finetune
    task: classify
    init: {{stage: pretrain, weights: ema}}
    model: {{image_size: {finetune_size}}}
    data: {{mix: {{mixup: 0.2, cutmix: 1.0, smoothing: 0.1}}}}
    optimizer: {{lr: 5e-4}}
    schedule: {{name: cosine, epochs: {finetune}}}
  - name: evaluate
    task: evaluate
    init: {{stage: finetune, weights: ema}}
    submodels: [{{name: even, keep: even}}, {{name: odd, keep: odd}}, {{name: first_2, keep: "first:2"}}]
  - name: export
    task: export
    init: {{stage: finetune, weights: ema}}
    after: [evaluate]
)",
      fmt::arg("name", options.name), fmt::arg("runs", (folder / "runs").string()),
      fmt::arg("ranks", options.ranks), fmt::arg("model", options.model), fmt::arg("arch", options.arch),
      fmt::arg("size", options.pretrain_image_size), fmt::arg("train", train), fmt::arg("val", val),
      fmt::arg("global", options.global), fmt::arg("micro", options.micro),
      fmt::arg("reduction", options.reduction), fmt::arg("every", options.checkpoint_every_steps),
      fmt::arg("keep", options.keep), fmt::arg("pretrain", options.pretrain_epochs),
      fmt::arg("finetune", options.finetune_epochs), fmt::arg("finetune_size", options.finetune_image_size));
  return folder / (options.name + ".yaml");
}

std::string exported_sha256(const fs::path& run_folder) {
  const fs::path file = run_folder / "export" / "model" / "model.safetensors";
  return fs::exists(file) ? sha256_file(file) : "";
}

std::vector<ProcessId> processes_named(const std::string& program_name, const std::string& mentioning) {
  std::vector<ProcessId> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string command = file_text(entry.path() / "cmdline");
    if (fs::path(command.substr(0, command.find('\0'))).filename() != program_name) continue;
    if (command.find(mentioning) == std::string::npos &&
        file_text(entry.path() / "environ").find(mentioning) == std::string::npos) {
      continue;
    }
    const pid_t pid = std::stoi(name);
    const ProcessId id{pid, start_time_of(pid).value_or(0)};
    if (is_alive(id)) found.push_back(id);
  }
  return found;
}

}  // namespace cosub::testing
