#include "tests/e2e/bad_input.h"

#include <fstream>
#include <stdexcept>

#include "common/atomic_file.h"
#include "tests/support/idx_files.h"

namespace cosub::testing {

namespace fs = std::filesystem;

std::string replaced(const std::string& text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  if (at == std::string::npos || text.find(from, at + 1) != std::string::npos)
    throw std::invalid_argument("'" + from + "' is not there exactly once");
  return text.substr(0, at) + to + text.substr(at + from.size());
}

std::string tiny_pipeline(const fs::path& runs, int channels) {
  const std::string width = std::to_string(channels);
  return "name: tiny\n"
         "seed: 3\n"
         "runs: " +
         runs.string() +
         "\n"
         "cluster: {backend: mpirun, ranks: 1, backoff: 100ms, backoff_max: 200ms, grace: 20s}\n"
         "defaults:\n"
         "  model: {name: resnet18, classes: 4, channels: 1, image_size: 14, drop_rate: 0.0,\n"
         "    arch: {layers: [1, 1, 1, 1], channels: [" +
         width + ", " + width + ", " + width + ", " + width +
         "], stem_type: deep, stem_width: 4}}\n"
         "  data:\n"
         "    train: {idx: {images: data/train-images-idx3-ubyte, labels: data/train-labels-idx1-ubyte}}\n"
         "    val: {idx: {images: data/val-images-idx3-ubyte.gz, labels: data/val-labels-idx1-ubyte.gz}}\n"
         "  cosub: {lambda: 0.5, loss: ce}\n"
         "  optimizer: {name: adamw, lr: 3e-3, weight_decay: 0.05}\n"
         "  batch: {global: 32, micro: 16}\n"
         "  ema: 0.9\n"
         "  checkpoint: {every: 10m, every_steps: 2, keep: 2}\n"
         "stages:\n"
         "  - name: pretrain\n"
         "    task: classify\n"
         "    schedule: {name: cosine, epochs: 3}\n"
         "  - name: export\n"
         "    task: export\n"
         "    init: {stage: pretrain, weights: ema}\n";
}

BadInput::BadInput() {
  fs::create_directories(folder_ / "data");
  ToySet set;
  set.samples = 64;
  set.compressed = false;
  write_toy_set(folder_ / "data", "train", set);
  set.samples = 16;
  set.first_sample = 1'000'000;
  set.compressed = true;
  write_toy_set(folder_ / "data", "val", set);
  write_pipeline(tiny_pipeline(runs()));
}

BadInput::~BadInput() {
  for (const char* name : {"cosub", "cosub-coordinator", "cosub-attempt", "mpirun", "cosub-worker"}) {
    EXPECT_TRUE(processes_named(name, folder_.path().string()).empty()) << name << " still runs";
  }
}

void BadInput::write_pipeline(const std::string& text) const {
  write_file_atomically(folder_ / "tiny.yaml", text);
}

ProgramResult BadInput::run(const std::vector<std::string>& more, const ProgramOptions& options) const {
  std::vector<std::string> argv{program("cosub").string(), "run", (folder_ / "tiny.yaml").string()};
  argv.insert(argv.end(), more.begin(), more.end());
  return run_program(argv, options);
}

void expect_refusal(const ProgramResult& result, ExitCode code, const std::vector<std::string>& words) {
  EXPECT_EQ(result.exit_code, static_cast<int>(code)) << result.output;
  for (const std::string& word : words) EXPECT_THAT(result.output, ::testing::HasSubstr(word));
  std::size_t errors = 0;
  for (std::size_t at = 0; (at = result.output.find("error: ", at)) != std::string::npos; ++at)
    errors += at == 0 || result.output[at - 1] == '\n';
  EXPECT_LE(errors, 1U) << result.output;
}

void expect_success(const ProgramResult& result) {
  EXPECT_EQ(result.exit_code, 0) << result.output;
}

void flip_a_bit(const fs::path& file) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  const auto middle = static_cast<std::streamoff>(fs::file_size(file) / 2);
  stream.seekg(middle);
  const int byte = stream.get();
  stream.seekp(middle);
  stream.put(static_cast<char>(byte ^ 1));
  if (!stream.flush()) throw std::runtime_error("cannot change " + file.string());
}

}  // namespace cosub::testing
