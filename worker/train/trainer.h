// A training stage from its start (or its newest checkpoint) to its result: steps, log rows, validations,
// checkpoints, stopping on request. One Trainer on every rank; run() is collective; the numbers do not depend
// on how many ranks there are or how often the run was interrupted.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "common/exit_code.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/data/bad_share.h"
#include "worker/data/loader.h"
#include "worker/data/source.h"
#include "worker/train/bad_samples.h"
#include "worker/train/ema.h"
#include "worker/train/evaluator.h"
#include "worker/train/flat_state.h"
#include "worker/train/job.h"
#include "worker/train/metrics_csv.h"
#include "worker/train/optimizer.h"
#include "worker/train/progress_state.h"
#include "worker/train/schedule.h"
#include "worker/train/step.h"

namespace cosub::train {

class Trainer {
 public:
  /// Collective. `val` may be empty: then nothing is validated. Starts from the stage's newest checkpoint,
  /// else from what stage.init says. ConfigError, DataError when the stage cannot run so.
  Trainer(Job& job, std::shared_ptr<const data::Source> train, std::shared_ptr<const data::Source> val);

  /// kDone with result.json written, or kInterrupted with a checkpoint written.
  ExitCode run();

  const TrainingProgress& progress() const { return progress_; }
  FlatState& state() { return *state_; }
  Ema* ema() { return ema_ ? &*ema_ : nullptr; }
  const TrainStep& step() const { return *step_; }

 private:
  using Clock = std::chrono::steady_clock;

  void check_batch() const;
  void entered(Phase phase);
  void build_model();
  /// Rank 0 gets the checkpoint that it went on from.
  std::optional<checkpoint::Snapshot> restore();
  bool train();
  data::BadShare::Options bad_share_options() const;
  data::TrainLoader open_loader(std::int64_t first_step, std::int64_t end_step) const;
  std::optional<StepOutcome> start_step(data::TrainLoader& loader);
  void settle(const StepOutcome& outcome);
  bool must_settle() const;
  template <typename Get>
  std::optional<StepOutcome> explained(Get&& get);
  void explain(std::int64_t step, std::int64_t later_steps);
  void skipped(const StepOutcome& outcome);
  std::string ways_on() const;
  void check_that_something_was_learned() const;
  void check_parameters();
  void count(const StepOutcome& outcome, double seconds, double wait_seconds);
  double take_seconds();
  void add_bad_samples(const StepOutcome& outcome);
  void log_interval(const StepOutcome& outcome);
  bool checkpoint_due() const;
  std::string checkpoint_of(std::int64_t step) const;
  void commit_checkpoint();
  void wait_for_checkpoint();
  bool validation_due() const;
  EvalResult validate();
  void finish();

  Job& job_;
  std::shared_ptr<const data::Source> train_, val_;
  TrainingSet training_set_;
  data::StepPlan plan_;
  data::MakeDeviceDecoder make_decoder_;  // null: the loader's threads decode
  Schedule schedule_;
  std::shared_ptr<model::Backbone> model_;
  std::optional<FlatState> state_;
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<Ema> ema_;
  std::optional<TrainStep> step_;
  std::optional<checkpoint::Store> store_;  // rank 0
  std::optional<MetricsCsv> csv_;           // rank 0
  PhaseClock clock_;
  std::int64_t started_ = 0;      // steps; progress_.step of them are settled: their outcome is known
  std::int64_t microbatch_ = -1;  // under way, of this rank's
  Word asked_;                    // by the steps that are settled, and not done yet
  Clock::time_point settled_ = Clock::now();
  TrainingProgress progress_;
  BadSamples bad_samples_;
  std::optional<data::BadShare> bad_share_;
  std::int64_t checkpoint_step_ = -1;
  Clock::time_point last_checkpoint_ = Clock::now();
  // Of this attempt's part of the interval.
  double interval_seconds_ = 0, interval_wait_seconds_ = 0;
  std::int64_t interval_images_ = 0;
};

}  // namespace cosub::train
