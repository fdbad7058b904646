// BatchNorm as the training rules want it: each microbatch is normalised by the rows that are there, and
// running statistics change once per optimizer step, by the mean of the microbatches' statistics. So the
// layer does not touch its running buffers in training: it writes the batch's mean and unbiased variance
// where BatchStatistics tells it, and the trainer reduces those and calls update_running. Microbatches on
// several ranks can be normalised together (SyncBatchNorm: e.g. Peng et al., arXiv 1711.07240); how the
// ranks' sums meet is handed in.
#pragma once

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace cosub::model {

class BatchNorm2d;

/// [n] float64 of each rank of a group -> [group's size, n], on every one of them the same, in a fixed order.
/// Collective within the group; called in forward and in backward passes.
using GroupGather = std::function<at::Tensor(const at::Tensor&)>;

/// All BatchNorm layers of a model in construction order, and the flat buffer their batch statistics go to.
class BatchStatistics {
 public:
  void add(BatchNorm2d& layer);
  std::int64_t size() const;  // floats: 2 * sum of channels
  /// flat: [size()] of the parameters' dtype, written from now on by each training forward: by layer the
  /// means, then the unbiased variances. Call it before each microbatch: it first fills in the running
  /// statistics, which is what a layer contributes that sees no row (Bernoulli stochastic depth can drop them
  /// all).
  void write_to(const at::Tensor& flat);
  /// running = (1-momentum) * running + momentum * mean over microbatches, given the sum over
  /// `num_microbatches`. `applies`: undefined, or [] on the layers' device: where it is 0 nothing changes,
  /// whatever the sum holds.
  void update_running(const at::Tensor& flat_sum, std::int64_t num_microbatches,
                      const at::Tensor& applies = {});
  /// From now on every training forward takes mean and variance over the rows of all ranks of the group that
  /// `gather` joins, each of which must run the same passes, with at least one row in each layer; these are
  /// also what write_to's buffer gets, on each rank. The gradients of weight and bias stay those of this
  /// rank's rows. Empty: this rank by itself again.
  void normalize_together(GroupGather gather);
  const std::vector<BatchNorm2d*>& layers() const { return layers_; }

 private:
  std::vector<BatchNorm2d*> layers_;
};

/// Parameters weight, bias; buffers running_mean, running_var, num_batches_tracked (as torch.nn.BatchNorm2d).
class BatchNorm2d : public torch::nn::Module {
 public:
  BatchNorm2d(std::int64_t channels, BatchStatistics& statistics, double eps = 1e-5, double momentum = 0.1);
  at::Tensor forward(const at::Tensor& x);  // [N, C, H, W] -> same

  at::Tensor weight, bias, running_mean, running_var, num_batches_tracked;

 private:
  friend class BatchStatistics;
  at::Tensor batch_mean_, batch_var_;          // views of the flat buffer
  std::shared_ptr<const GroupGather> gather_;  // null: this rank by itself
  double eps_, momentum_;
};

}  // namespace cosub::model
