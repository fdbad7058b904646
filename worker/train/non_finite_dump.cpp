#include "worker/train/non_finite_dump.h"

#include <fmt/format.h>

#include <algorithm>

#include "worker/model/tensor_file.h"
#include "worker/train/snapshot.h"

namespace cosub::train {
namespace {

/// Of an attempt before this one the same is there already.
void write_again(const std::filesystem::path& file, const std::map<std::string, at::Tensor>& tensors,
                 const std::map<std::string, std::string>& metadata = {}) {
  std::filesystem::create_directories(file.parent_path());
  std::filesystem::remove(file);
  model::write_tensors(file, tensors, metadata);
}

std::filesystem::path weights_beside(const std::filesystem::path& file) {
  return file.parent_path() / (file.stem().string() + "-model.safetensors");
}

}  // namespace

std::filesystem::path non_finite_file(const std::filesystem::path& stage_folder, std::int64_t step,
                                      std::int64_t microbatch) {
  return stage_folder / "non-finite" / fmt::format("step-{:09d}-microbatch-{}.safetensors", step, microbatch);
}

std::optional<data::Microbatch> first_non_finite(TrainStep& step, data::TrainLoader& loader) {
  std::optional<data::Microbatch> found;
  const collective::StridedRange own = step.own_microbatches();
  for (std::int64_t m = own.begin; m < own.end; m += own.stride) {
    data::Microbatch batch = loader.next();
    if (!step.is_finite(batch) && !found) found = std::move(batch);
  }
  return found;
}

bool is_lowest(collective::Communicator& communicator, const std::optional<data::Microbatch>& found) {
  const std::vector<std::string> all = communicator.all_gather_text(found ? std::to_string(found->index) : "",
                                                                    "the microbatches that are not finite");
  return found && std::ranges::all_of(all, [&](const std::string& theirs) {
           return theirs.empty() || found->index <= std::stoll(theirs);
         });
}

void write_microbatch(const std::filesystem::path& file, const data::Microbatch& batch,
                      const model::Pass& pass, const RecordedStep& recorded) {
  std::map<std::string, at::Tensor> tensors = {{"input", batch.images.cpu()},
                                               {"target", batch.targets.cpu()},
                                               {"step", at::full({}, batch.step, at::kLong)},
                                               {"microbatch", at::full({}, batch.index, at::kLong)}};
  for (std::size_t i = 0; i < pass.kept.branches.size(); ++i) {
    const model::KeptRows::Branch& branch = pass.kept.branches[i];
    if (branch.all) continue;
    tensors[fmt::format("kept.{}", i)] = at::tensor(branch.rows, at::kLong);
    tensors[fmt::format("scale.{}", i)] = at::tensor(branch.scale, at::kDouble);
  }
  write_again(file, tensors, to_metadata(recorded));
}

void write_weights(const std::filesystem::path& file, FlatState& state) {
  write_again(weights_beside(file), named_tensors(state, state.values()));
}

std::string replay_command(const std::filesystem::path& file) {
  std::filesystem::path output = file;
  output.replace_filename(file.stem().string() + "-replay.safetensors");
  return fmt::format("cosub model step --input {} --weights {} --output {}", file.string(),
                     weights_beside(file).string(), output.string());
}

}  // namespace cosub::train
