#include "worker/train/sync_batch_norm.h"

#include <fmt/format.h>

#include <vector>

#include "common/error.h"

namespace cosub::train {

void check_sync_batchnorm(const config::StageConfig& stage, std::int64_t world_size) {
  const std::int64_t group_size = stage.sync_batchnorm;
  if (group_size == 1) return;
  const std::int64_t num_microbatches = stage.batch.global / stage.batch.micro;
  if (num_microbatches % group_size != 0) {
    throw ConfigError(fmt::format(
        "stage {}: sync_batchnorm: found {} with {} microbatches a step (batch.global {} / batch.micro {}); "
        "allowed: a divisor of {}. Change sync_batchnorm or batch.global",
        stage.name, group_size, num_microbatches, stage.batch.global, stage.batch.micro, num_microbatches));
  }
  if (world_size % group_size != 0) {
    throw ConfigError(
        fmt::format("stage {}: sync_batchnorm: found {} with {} rank(s), and each microbatch of {} needs a "
                    "rank of its own; "
                    "allowed: a multiple of {} ranks, up to {}. Start that many (cluster.ranks, mpirun -n); "
                    "sync_batchnorm "
                    "itself belongs to the run",
                    stage.name, group_size, world_size, group_size, group_size, num_microbatches));
  }
  if (stage.model.stochastic_depth == config::StochasticDepth::kBernoulli) {
    throw ConfigError(fmt::format(
        "stage {}: model.stochastic_depth: found bernoulli with sync_batchnorm {}: a rank whose branch keeps "
        "no "
        "row would leave the others of its group waiting; allowed: fixed. Set that, or sync_batchnorm: 1",
        stage.name, group_size));
  }
}

SyncBatchNorm::SyncBatchNorm(model::BatchStatistics& layers, collective::Communicator& communicator,
                             std::int64_t group_size)
    : layers_(layers),
      group_(communicator.split(communicator.rank() / group_size, "groups of sync_batchnorm")) {
  connect();
}

SyncBatchNorm::~SyncBatchNorm() {
  layers_.normalize_together({});
}

void SyncBatchNorm::connect() {
  layers_.normalize_together([this](const at::Tensor& mine) { return gather(mine); });
}

void SyncBatchNorm::begin(std::int64_t step, std::int64_t microbatch) {
  what_ = fmt::format("step {}, microbatch {}, sums of sync_batchnorm", step, microbatch);
}

at::Tensor SyncBatchNorm::gather(const at::Tensor& mine) {
  const at::Tensor all = at::empty({group_->world_size(), mine.size(0)}, mine.options());
  std::vector<at::Tensor> rows = all.unbind(0);
  group_->all_gather(mine, rows, what_);
  return all;
}

}  // namespace cosub::train
