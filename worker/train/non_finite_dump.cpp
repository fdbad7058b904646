#include "worker/train/non_finite_dump.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "worker/collective/reduction/partition.h"
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

/// This rank's first microbatch of the step that is not finite by itself.
std::optional<data::Microbatch> first_non_finite(TrainStep& step, data::TrainLoader loader) {
  std::optional<data::Microbatch> found;
  const collective::StridedRange own = step.own_microbatches();
  for (std::int64_t m = own.begin; m < own.end; m += own.stride) {
    data::Microbatch batch = loader.next();
    if (!step.is_finite(batch) && !found) found = std::move(batch);
  }
  return found;
}

/// Collective: the lowest index that any rank found.
std::optional<std::int64_t> lowest_of_all(collective::Communicator& communicator,
                                          const std::optional<data::Microbatch>& found) {
  std::optional<std::int64_t> lowest;
  for (const std::string& theirs : communicator.all_gather_text(found ? std::to_string(found->index) : "",
                                                                "the microbatches that are not finite")) {
    if (!theirs.empty())
      lowest = std::min(lowest.value_or(std::stoll(theirs)), std::int64_t{std::stoll(theirs)});
  }
  return lowest;
}

void tell_that_none_is(const NonFiniteStep& suspect) {
  spdlog::warn(
      "step {}: each microbatch is finite by itself, so none is written{}{}", suspect.number,
      suspect.later_steps > 0 ? "; the weights are already those of a later step" : "",
      suspect.job.stage().sync_batchnorm > 1 ? "; BatchNorm over several (sync_batchnorm) was not" : "");
}

void write_and_tell(const NonFiniteStep& suspect, const data::Microbatch& batch) {
  const config::StageConfig& stage = suspect.job.stage();
  RecordedStep recorded{.model = suspect.model.timm_config().dump(),
                        .cosub = stage.cosub,
                        .precision = stage.precision,
                        .later_updates = suspect.later_steps};
  recorded.cosub.lambda = suspect.lambda;
  const std::filesystem::path file =
      suspect.job.folder.root / "non-finite" /
      fmt::format("step-{:09d}-microbatch-{}.safetensors", batch.step, batch.index);
  write_microbatch(file, batch, suspect.step.pass_for(batch), recorded);
  write_again(weights_beside(file), named_tensors(suspect.state, suspect.state.values()));
  spdlog::error("step {}: microbatch {} is not finite. Once more, with loss and gradients in a file: {}{}",
                batch.step, batch.index, replay_command(file),
                suspect.later_steps > 0
                    ? fmt::format(" (the weights are those after {} more step(s), which was under way)",
                                  suspect.later_steps)
                    : "");
}

}  // namespace

void explain_non_finite(const NonFiniteStep& suspect) {
  const auto attempt = [&](const auto& work) {
    try {
      work();
    } catch (const std::exception& error) {
      spdlog::warn("step {}: the microbatch that is not finite could not be found or written: {}",
                   suspect.number, error.what());
    }
  };
  attempt([&] {
    std::optional<data::Microbatch> found;
    attempt([&] {  // or the others would wait for this rank
      suspect.step.set_lambda(suspect.lambda);
      found = first_non_finite(suspect.step, suspect.open_loader());
    });
    const std::optional<std::int64_t> lowest = lowest_of_all(suspect.job.communicator, found);
    if (!lowest && suspect.job.is_root()) tell_that_none_is(suspect);
    if (found && found->index == lowest) write_and_tell(suspect, *found);
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

std::string replay_command(const std::filesystem::path& file) {
  std::filesystem::path output = file;
  output.replace_filename(file.stem().string() + "-replay.safetensors");
  return fmt::format("cosub model step --input {} --weights {} --output {}", file.string(),
                     weights_beside(file).string(), output.string());
}

}  // namespace cosub::train
