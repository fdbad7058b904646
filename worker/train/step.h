// One optimizer step: this rank's microbatches through the model, the reduction over all ranks, the update.
// Everything that crosses ranks in a step is one flat float32 vector:
//   [ gradients | BatchNorm batch statistics | sums: loss, correct, images, bad samples | word: stop,
//   checkpoint ]
// so that one reduction makes gradients, statistics, meters and decisions the same on every rank.
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
#include "worker/train/adamw.h"
#include "worker/train/ema.h"
#include "worker/train/flat_state.h"
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
  Word word;
};

class TrainStep {
 public:
  struct Parts {
    model::Backbone& model;
    FlatState& state;
    AdamW& optimizer;
    Ema* ema;  // nullptr: none
    collective::Communicator& communicator;
    PhaseClock& clock;
  };
  /// `stage` as configured; `stream` keys the draws of kept rows. Collective with stage.sync_batchnorm above
  /// 1; ConfigError where that does not fit the number of ranks.
  TrainStep(Parts parts, const config::StageConfig& stage, std::uint64_t stream);

  /// Collective. Takes this rank's microbatches of `step` from `next`, ascending, and updates the model once.
  /// NonFiniteError, on all ranks alike and before anything is changed, when loss or gradients are not
  /// finite.
  StepOutcome run(std::int64_t step, const std::function<data::Microbatch()>& next, double learning_rate,
                  Word word);

  /// The vector after the last run: its gradients are the reduced ones, clipped.
  const at::Tensor& vector() const { return vector_; }
  collective::StridedRange own_microbatches() const { return own_; }

 private:
  std::unique_ptr<collective::StepReduction> make_reduction();
  void forward_backward(const data::Microbatch& batch);
  model::Pass pass_for(const data::Microbatch& batch) const;
  void write_sums(const data::Microbatch& batch, const at::Tensor& logits, const at::Tensor& loss);
  StepOutcome read_sums(std::int64_t step) const;
  void update(std::int64_t step, StepOutcome& outcome);

  Parts parts_;
  config::StageConfig stage_;
  std::uint64_t stream_;
  std::int64_t num_microbatches_;
  collective::StridedRange own_;
  at::Tensor vector_, gradients_, statistics_, tail_;  // the last three are views of the first
  std::unique_ptr<SyncBatchNorm> sync_batch_norm_;     // nullptr: each microbatch is normalised by itself
  std::unique_ptr<collective::StepReduction> reduction_;
};

}  // namespace cosub::train
