#include "worker/tools/data_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "common/config/pipeline.h"
#include "common/error.h"
#include "common/random.h"
#include "worker/collective/reduction/partition.h"
#include "worker/data/loader.h"

namespace cosub::tools {
namespace {

const config::StageConfig& training_stage(const config::PipelineConfig& pipeline, const std::string& name) {
  std::string known;
  for (const config::StageConfig& stage : pipeline.stages) {
    if (stage.task != config::TaskKind::kClassify) continue;
    if (name.empty() || stage.name == name) return stage;
    known += (known.empty() ? "" : ", ") + stage.name;
  }
  throw ConfigError(fmt::format("--stage {}: the pipeline has no such stage that trains; it has: {}", name,
                                known.empty() ? "none" : known));
}

/// The rank that owns each microbatch of a step.
std::vector<std::int64_t> owners(std::int64_t ranks, std::int64_t microbatches, std::int64_t group_size) {
  std::vector<std::int64_t> owner(microbatches);
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const collective::StridedRange own = collective::microbatches_of(rank, ranks, microbatches, group_size);
    for (std::int64_t m = own.begin; m < own.end; m += own.stride) owner[m] = rank;
  }
  return owner;
}

}  // namespace

ExitCode run_data_order(const DataOrderOptions& options) {
  const config::PipelineConfig pipeline = config::load_pipeline(options.pipeline, options.overrides);
  const config::StageConfig& stage = training_stage(pipeline, options.stage);
  const auto source = data::open_source(stage.data.train, stage.model.channels, stage.model.classes);
  const data::StepPlan plan = data::plan_of(stage, source->size());
  const std::int64_t ranks = options.ranks > 0 ? options.ranks : pipeline.cluster.ranks;
  if (ranks > plan.microbatches() || ranks % stage.sync_batchnorm != 0) {
    throw ConfigError(
        fmt::format("--ranks {}: stage {} has {} microbatches a step (sync_batchnorm {}): give at most "
                    "so many, a multiple of sync_batchnorm",
                    ranks, stage.name, plan.microbatches(), stage.sync_batchnorm));
  }
  const std::vector<std::int64_t> owner = owners(ranks, plan.microbatches(), stage.sync_batchnorm);
  const data::Sampler sampler =
      data::sampler_of(stage.data, stream_seed(pipeline.seed, stage.name), plan.size);
  fmt::print("# stage {}: {} samples, {} steps an epoch, {} microbatches of {} rows a step, {} rank{}\n",
             stage.name, plan.size, plan.steps_per_epoch(), plan.microbatches(), plan.micro, ranks,
             ranks == 1 ? "" : "s");
  fmt::print("{:>8} {:>5} {:>10} {:>5} {:>4} {:>10} {:>6}  {}\n", "step", "epoch", "microbatch", "rank",
             "row", "sample", "label", "name");
  for (std::int64_t step = options.first_step; step < options.first_step + options.num_steps; ++step) {
    const std::int64_t epoch = plan.epoch_of(step);
    for (std::int64_t m = 0; m < plan.microbatches(); ++m) {
      for (std::int64_t row = 0; row < plan.micro; ++row) {
        const std::int64_t sample = sampler.sample(epoch, plan.place(step, m, row).position);
        fmt::print("{:>8} {:>5} {:>10} {:>5} {:>4} {:>10} {:>6}  {}\n", step, epoch, m, owner[m], row, sample,
                   source->label(sample), source->name(sample));
      }
    }
  }
  return ExitCode::kDone;
}

}  // namespace cosub::tools
