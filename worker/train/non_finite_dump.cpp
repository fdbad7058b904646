#include "worker/train/non_finite_dump.h"

#include <fmt/format.h>

#include "worker/model/tensor_file.h"
#include "worker/train/snapshot.h"

namespace cosub::train {

std::filesystem::path non_finite_file(const std::filesystem::path& stage_folder, std::int64_t step,
                                      std::int64_t microbatch) {
  return stage_folder / "non-finite" / fmt::format("step-{:09d}-microbatch-{}.safetensors", step, microbatch);
}

void write_microbatch(const std::filesystem::path& file, const data::Microbatch& batch,
                      const model::Pass& pass) {
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
  std::filesystem::create_directories(file.parent_path());
  std::filesystem::remove(file);  // of an attempt before this one: the same bytes
  model::write_tensors(file, tensors);
}

std::filesystem::path dump_non_finite(TrainStep& step, FlatState& state, data::TrainLoader& loader,
                                      const std::filesystem::path& stage_folder) {
  std::filesystem::path written;
  const collective::StridedRange own = step.own_microbatches();
  for (std::int64_t m = own.begin; m < own.end; m += own.stride) {
    const data::Microbatch batch = loader.next();
    if (step.is_finite(batch) || !written.empty()) continue;
    written = non_finite_file(stage_folder, batch.step, batch.index);
    write_microbatch(written, batch, step.pass_for(batch));
    std::filesystem::path weights = written;
    weights.replace_filename(written.stem().string() + "-model.safetensors");
    std::filesystem::remove(weights);
    model::write_tensors(weights, named_tensors(state, state.values()));
  }
  return written;
}

}  // namespace cosub::train
