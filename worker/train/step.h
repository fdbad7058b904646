// One optimizer step: this rank's microbatches through the model, the reduction over all ranks, the update.
// Everything that crosses ranks in a step is one flat vector of the parameters' dtype:
//   [ gradients | BatchNorm batch statistics | sums: loss, correct, images, bad samples | word: stop,
//   checkpoint ]
// so that one reduction makes gradients, statistics, meters and decisions the same on every rank. What stands
// after the gradients is known before the backward pass of a rank's last microbatch and leaves first; the
// gradients follow in buckets while that pass computes the next ones.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "common/config/pipeline.h"
#include "worker/collective/communicator.h"
#include "worker/collective/step_reduction.h"
#include "worker/data/microbatch.h"
#include "worker/model/model.h"
#include "worker/train/ema.h"
#include "worker/train/flat_state.h"
#include "worker/train/gradient_buckets.h"
#include "worker/train/optimizer.h"
#include "worker/train/phase_clock.h"
#include "worker/train/sync_batch_norm.h"

namespace cosub::train {

/// What a rank wants of the step boundary; after the reduction, what any rank wanted.
struct Word {
  bool stop = false;
  bool checkpoint = false;
};

struct StepOutcome {
  double loss = 0;  // mean over the global batch
  double correct =
      0;  // images whose views predict the target's largest class; half an image where one of two does
  std::int64_t images = 0;
  std::int64_t bad_samples = 0;  // that the microbatches name
  double gradient_norm = 0;      // before clipping
  double learning_rate = 0;
  bool skipped = false;  // not finite, and non_finite: skip: nothing was updated
  Word word;
};

class TrainStep {
 public:
  struct Parts {
    model::Backbone& model;
    FlatState& state;
    Optimizer& optimizer;
    Ema* ema;  // nullptr: none
    collective::Communicator& communicator;
    PhaseClock& clock;
    /// Called by another thread as it turns to a bucket of gradients; may be empty.
    std::function<void(std::int64_t step, std::int64_t bucket, std::int64_t num_buckets)> on_bucket = {};
  };
  /// `stage` as configured; `stream` keys the draws of kept rows. Collective with stage.sync_batchnorm above
  /// 1; ConfigError where that does not fit the number of ranks.
  TrainStep(Parts parts, const config::StageConfig& stage, std::uint64_t stream);

  /// Collective. Takes this rank's microbatches of `step` from `next`, ascending, and updates the model once.
  /// Where loss or gradients are not finite, on all ranks alike and before anything is changed:
  /// NonFiniteError, or with non_finite: skip an outcome that says skipped.
  StepOutcome run(std::int64_t step, const std::function<data::Microbatch()>& next, double learning_rate,
                  Word word);

  /// Weight of the other submodel's prediction from now on; at first cosub.lambda.
  void set_lambda(double lambda) { lambda_ = lambda; }
  /// Steps that were left out: optimizer and average do not count them.
  std::int64_t skipped_steps() const { return skipped_steps_; }
  void set_skipped_steps(std::int64_t count) { skipped_steps_ = count; }

  /// Not collective, changes nothing but the vector: whether this microbatch alone gives a finite loss and
  /// finite gradients.
  bool is_finite(const data::Microbatch& batch);
  /// The rows that each branch keeps of this microbatch.
  model::Pass pass_for(const data::Microbatch& batch) const;

  /// The vector after the last run: its gradients are the reduced ones, clipped.
  const at::Tensor& vector() const { return reduced_; }
  collective::StridedRange own_microbatches() const { return own_; }
  /// Seconds since the last call that gradients travelled, in the background or not.
  double take_exchange_seconds() { return reduction_->take_exchange_time().count(); }

 private:
  std::unique_ptr<collective::StepReduction> make_reduction();
  void run_microbatch(const data::Microbatch& batch, Word word, bool is_last);
  at::Tensor forward(const data::Microbatch& batch);
  void write_sums(const data::Microbatch& batch, const at::Tensor& logits, const at::Tensor& loss);
  StepOutcome read_sums(std::int64_t step) const;
  void update(std::int64_t updates, StepOutcome& outcome);

  Parts parts_;
  config::StageConfig stage_;
  std::uint64_t stream_;
  std::int64_t num_microbatches_;
  std::int64_t skipped_steps_ = 0;
  double lambda_;
  collective::StridedRange own_;
  at::Tensor vector_, gradients_, statistics_, tail_;  // the last three are views of the first
  at::Tensor reduced_;                                 // the sum over all ranks, laid out alike
  std::unique_ptr<SyncBatchNorm> sync_batch_norm_;     // nullptr: each microbatch is normalised by itself
  std::unique_ptr<collective::StepReduction> reduction_;
  std::unique_ptr<GradientReadiness> readiness_;  // nullptr: nothing is exchanged during the backward pass
};

}  // namespace cosub::train
