// One optimizer step: this rank's microbatches through the model, the reduction over all ranks, the update.
// Everything that crosses ranks in a step is one flat vector of the parameters' dtype:
//   [ gradients | BatchNorm batch statistics | sums: loss, correct, images, bad samples | word: stop,
//   checkpoint ]
// so that one reduction makes gradients, statistics, meters and decisions the same on every rank. What stands
// after the gradients is known before the backward pass of a rank's last microbatch and leaves first; the
// gradients follow in buckets while that pass computes the next ones. The host reads none of these numbers
// within a step: whether the step is finite is decided, and obeyed, on the device (update_scalars.h).
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "common/config/pipeline.h"
#include "worker/collective/communicator.h"
#include "worker/collective/reduction/partition.h"
#include "worker/collective/reduction/step_reduction.h"
#include "worker/data/microbatch.h"
#include "worker/model/model.h"
#include "worker/train/ema.h"
#include "worker/train/flat_state.h"
#include "worker/train/gradient_buckets.h"
#include "worker/train/optimizer.h"
#include "worker/train/phase_clock.h"
#include "worker/train/step_graph.h"
#include "worker/train/step_inputs.h"
#include "worker/train/step_results.h"
#include "worker/train/sync_batch_norm.h"
#include "worker/train/update_scalars.h"

namespace cosub::train {

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
    /// Null: each step is launched piece by piece, and its microbatches are loaded one after the other.
    std::unique_ptr<StepGraph> graph = {};
    /// run() gives the outcome of the step before, so that the host does not wait for the device.
    bool late_results = false;
  };
  /// `stage` as configured; `stream` keys the draws of kept rows. Collective with stage.sync_batchnorm above
  /// 1; ConfigError where that does not fit the number of ranks.
  TrainStep(Parts parts, const config::StageConfig& stage, std::uint64_t stream);

  /// Collective. Takes this rank's microbatches of `step` from `next`, ascending, and updates the model once.
  /// Where loss or gradients are not finite, on all ranks alike, nothing is changed: the outcome says
  /// skipped, or with non_finite: stop a NonFiniteError does, and no later step changes anything either.
  /// Returns the outcome that is due: this step's, or with late_results that of the step before, if there was
  /// one.
  std::optional<StepOutcome> run(std::int64_t step, const std::function<data::Microbatch()>& next,
                                 double learning_rate, Word word);
  /// The oldest outcome that run has not returned; waits for the device. NonFiniteError as run.
  std::optional<StepOutcome> last();

  /// Weight of the other submodel's prediction from now on; at first cosub.lambda.
  void set_lambda(double lambda) { lambda_ = lambda; }
  /// Steps that were left out: optimizer and average do not count them.
  std::int64_t skipped_steps() const { return skipped_steps_; }
  void set_skipped_steps(std::int64_t count) { skipped_steps_ = count; }  // before the first run

  /// Not collective, changes nothing but the vector: whether this microbatch alone gives a finite loss and
  /// finite gradients.
  bool is_finite(const data::Microbatch& batch);
  /// The rows that each branch keeps of this microbatch.
  model::Pass pass_for(const data::Microbatch& batch) const;

  /// The vector after the last run: its gradients are the reduced ones, clipped.
  const at::Tensor& vector() const { return reduced_; }
  /// What this rank's exchange keeps from step to step, each laid out as vector(), live: to be saved and set
  /// between steps. Nothing but with exchange.error_feedback; as many on all ranks.
  std::vector<at::Tensor> kept() const { return reduction_->kept(); }
  collective::StridedRange own_microbatches() const { return own_; }
  /// Whether gradients travel during the backward pass.
  bool overlaps() const { return reduction_->overlaps(); }
  /// Seconds since the last call that gradients travelled, in the background or not.
  double take_exchange_seconds() { return reduction_->take_exchange_time().count(); }

 private:
  std::unique_ptr<collective::StepReduction> make_reduction();
  std::size_t num_own() const;
  const MicrobatchInputs& load(std::size_t place, const std::function<data::Microbatch()>& next, Word word);
  const MicrobatchInputs& put(std::size_t place, const data::Microbatch& batch, Word word);
  void compute(std::int64_t step, const std::function<const MicrobatchInputs&(std::size_t)>& microbatch);
  void run_microbatch(const MicrobatchInputs& inputs, bool is_last);
  at::Tensor forward(const MicrobatchInputs& inputs);
  void write_sums(const MicrobatchInputs& inputs, const at::Tensor& logits, const at::Tensor& loss);
  void decide();
  void update();
  std::optional<StepOutcome> checked(std::optional<StepOutcome> outcome);

  Parts parts_;
  config::StageConfig stage_;
  std::uint64_t stream_;
  std::int64_t num_microbatches_;
  std::int64_t skipped_steps_ = 0;
  double lambda_;
  collective::StridedRange own_;
  StepInputs inputs_;
  UpdateScalars scalars_;
  bool counts_updates_ = false;  // scalars_ has the number of updates before the next step
  at::Tensor alive_, results_;   // [] bool: no step has stopped the run; [StepResults::kNumbers] float64
  StepResults sent_;
  at::Tensor vector_, gradients_, statistics_, tail_;  // the last three are views of the first
  std::vector<at::Tensor> parameters_;                 // whose gradients those are
  at::Tensor reduced_;                                 // the sum over all ranks, laid out alike
  std::unique_ptr<SyncBatchNorm> sync_batch_norm_;     // nullptr: each microbatch is normalised by itself
  std::unique_ptr<collective::StepReduction> reduction_;
  std::unique_ptr<GradientReadiness> readiness_;  // nullptr: nothing is exchanged during the backward pass
  std::unique_ptr<StepGraph> graph_;              // of Parts; ends before the communicators that it captured
};

}  // namespace cosub::train
