// `sync_batchnorm: G`: groups of G neighbouring ranks run G neighbouring microbatches at the same time, one
// each, and BatchNorm normalises these together. TrainStep owns the group.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/config/pipeline.h"
#include "worker/collective/communicator.h"
#include "worker/model/batch_norm.h"

namespace cosub::train {

/// ConfigError when this many ranks cannot form the groups, or the stage cannot have any.
void check_sync_batchnorm(const config::StageConfig& stage, std::int64_t world_size);

class SyncBatchNorm {
 public:
  /// Collective over `communicator`, whose ranks it splits into groups. Connects the layers to the group
  /// until it is destroyed; both must outlive it.
  SyncBatchNorm(model::BatchStatistics& layers, collective::Communicator& communicator,
                std::int64_t group_size);
  ~SyncBatchNorm();
  SyncBatchNorm(const SyncBatchNorm&) = delete;
  SyncBatchNorm& operator=(const SyncBatchNorm&) = delete;

  /// While one lives, each microbatch is normalised by itself, without the group. Not collective.
  class Apart {
   public:
    explicit Apart(SyncBatchNorm& group) : group_(group) { group_.layers_.normalize_together({}); }
    ~Apart() { group_.connect(); }
    Apart(const Apart&) = delete;
    Apart& operator=(const Apart&) = delete;

   private:
    SyncBatchNorm& group_;
  };

  void begin(std::int64_t step, std::int64_t microbatch);  // before a forward pass: what errors name
  collective::Communicator& group() { return *group_; }

 private:
  void connect();
  at::Tensor gather(const at::Tensor& mine);

  model::BatchStatistics& layers_;
  std::unique_ptr<collective::Communicator> group_;
  std::string what_;
};

}  // namespace cosub::train
