#include "worker/train/task/evaluate.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "common/error.h"
#include "worker/train/agreement.h"
#include "worker/train/device.h"
#include "worker/train/evaluator.h"
#include "worker/train/flat_state.h"
#include "worker/train/initial_weights.h"
#include "worker/train/precision.h"
#include "worker/train/result.h"
#include "worker/train/stop_flag.h"

namespace cosub::train {
namespace {

/// One model to evaluate: the full one ("") or a named submodel.
struct Part {
  std::string name;
  model::Pass pass;
};

/// Each submodel with the branch scale that it asks for, and as NAME.branch_scale_OTHER with the other one,
/// unless the model was trained without dropping anything.
std::vector<Part> parts_of(const config::StageConfig& stage, const LoadedModel& loaded) {
  const std::vector<double>& scales = loaded.block_scales;
  const bool is_scaled = std::any_of(scales.begin(), scales.end(), [](double scale) { return scale != 1.0; });
  std::vector<Part> parts{{"", {}}};
  for (const config::SubmodelConfig& submodel : stage.submodels) {
    for (const config::BranchScale scale : {config::BranchScale::kOne, config::BranchScale::kTrain}) {
      const bool is_asked_for = scale == submodel.branch_scale,
                 is_train = scale == config::BranchScale::kTrain;
      if (!is_asked_for && !is_scaled) continue;
      Part part{submodel.name, {}};
      if (!is_asked_for) part.name += is_train ? ".branch_scale_train" : ".branch_scale_1";
      part.pass.kind = model::Pass::Kind::kSubmodel;
      part.pass.keep_block = model::parse_keep(submodel.keep, loaded.model->seam().num_blocks());
      if (is_train) part.pass.block_scale = scales;
      parts.push_back(std::move(part));
    }
  }
  return parts;
}

void show(const Job& job, std::size_t part, std::size_t num_parts, double share_of_part) {
  protocol::Progress progress = job.telemetry.progress();
  progress.total_steps = static_cast<std::int64_t>(num_parts) * 100;
  progress.step = static_cast<std::int64_t>((static_cast<double>(part) + share_of_part) * 100);
  job.telemetry.set_progress(progress);
  job.side_channel.at({.step = static_cast<std::int64_t>(part),
                       .phase = collective::Phase::kEvaluate,
                       .microbatch = static_cast<std::int64_t>(100 * share_of_part)});
}

}  // namespace

ExitCode run_evaluate(Job& job, const std::shared_ptr<const data::Source>& val) {
  job.telemetry.set_phase("evaluating");
  LoadedModel loaded = load_finished_model(job);
  if (job.is_root()) spdlog::info("evaluating {}", loaded.description);
  config::DataConfig data = job.stage().data;
  if (data.mean.empty()) data.mean = loaded.data.mean;
  if (data.std.empty()) data.std = loaded.data.std;

  StageResult result{.step = 0, .metrics = {}, .export_path = {}, .samples = val->size(), .param_hash = {}};
  result.param_hash = FlatState(*loaded.model).hash();
  check_equal_on_all_ranks(job.communicator, result.param_hash, "the hash of the parameters");

  set_numerics(job.stage());
  const AutocastScope autocast(job.stage().precision, job.device);
  std::vector<Part> parts = parts_of(job.stage(), loaded);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (any_rank(job.communicator, stop_requested(), "the request to stop")) return ExitCode::kInterrupted;
    EvalResult numbers =
        evaluate(*loaded.model, job.communicator,
                 {.source = val, .data = data, .pass = parts[i].pass, .on_progress = [&](double share) {
                    show(job, i, parts.size(), share);
                  }});
    add_metrics(result.metrics, parts[i].name.empty() ? "" : "submodels." + parts[i].name + ".", numbers);
    if (i == 0) {
      protocol::Progress progress = job.telemetry.progress();
      progress.val_top1 = numbers.top1;
      progress.loss = numbers.loss;
      job.telemetry.set_progress(progress);
    }
    if (job.is_root())
      spdlog::info("{}: top-1 {:.4f}, top-5 {:.4f}, loss {:.4f} on {} images",
                   parts[i].name.empty() ? "full model" : "submodel " + parts[i].name, numbers.top1,
                   numbers.top5, numbers.loss, numbers.images);
  }
  write_result(job, result);
  job.communicator.barrier("the end of the stage");
  return ExitCode::kDone;
}

}  // namespace cosub::train
