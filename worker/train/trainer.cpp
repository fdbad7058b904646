#include "worker/train/trainer.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "common/error.h"
#include "common/text.h"
#include "worker/collective/reduction/partition.h"
#include "worker/data/storage/source_identity.h"
#include "worker/train/agreement.h"
#include "worker/train/device.h"
#include "worker/train/error_record.h"
#include "worker/train/export_model.h"
#include "worker/train/initial_weights.h"
#include "worker/train/non_finite_dump.h"
#include "worker/train/precision.h"
#include "worker/train/result.h"
#include "worker/train/snapshot.h"
#include "worker/train/stop_flag.h"
#include "worker/train/sync_batch_norm.h"

namespace cosub::train {
namespace {

/// Cosub without a branch that drops rows is twice the price for nothing.
void warn_of_equal_submodels(const config::StageConfig& stage, const model::Backbone& model,
                             std::int64_t images) {
  const std::vector<double> scales = model::training_scales(model, images);  // 1 where every row is kept
  if (!stage.cosub.enabled || std::ranges::any_of(scales, [](double scale) { return scale != 1; })) return;
  spdlog::warn(
      "cosub.enabled, but no block drops a row: both submodels are the whole model and learn the same. Raise "
      "model.drop_rate ({:g}) or batch.micro ({}), or set cosub.enabled: false",
      stage.model.drop_rate, images);
}

}  // namespace

Trainer::Trainer(Job& job, std::shared_ptr<const data::Source> train, std::shared_ptr<const data::Source> val)
    : job_(job),
      train_(std::move(train)),
      val_(std::move(val)),
      plan_(data::plan_of(job.stage(), train_->size())),
      schedule_(job.stage().schedule, job.stage().optimizer.lr, plan_.steps_per_epoch()),
      bad_samples_(job.communicator, job.folder.bad_samples()) {
  on_all_ranks(job_.communicator, "checking the batch", [this] { check_batch(); });
  on_all_ranks(job_.communicator, "reading which samples there are", [this] {
    training_set_ = {train_->size(), data::identity_of(job_.stage().data.train, *train_)};
  });
  if (job_.is_root()) store_.emplace(job_.folder.root, job_.attempt, job_.stage().checkpoint.keep);
  on_all_ranks(job_.communicator, "choosing the decoder",
               [this] { make_decoder_ = choose_decoder(job_.stage().data, job_.device); });
  build_model();
  const std::optional<checkpoint::Snapshot> snapshot = restore();
  check_equal_on_all_ranks(job_.communicator, state_->hash(), "the hash of the parameters at the start");
  if (job_.is_root()) csv_.emplace(job_.folder.metrics_csv(), progress_.step);
  step_.emplace(
      TrainStep::Parts{.model = *model_,
                       .state = *state_,
                       .optimizer = *optimizer_,
                       .ema = ema(),
                       .communicator = job_.communicator,
                       .clock = clock_,
                       .on_bucket =
                           [&job](std::int64_t step, std::int64_t bucket, std::int64_t num_buckets) {
                             job.side_channel.exchanging(step, bucket, num_buckets);
                           },
                       .graph = make_step_graph(job_.stage(), job_.device, job_.communicator.world_size()),
                       .late_results = job_.late_results},
      job_.stage(), job_.stream);
  restore_kept(snapshot ? &*snapshot : nullptr, job_.communicator, *state_, step_->kept(),
               checkpoint_of(progress_.step));
  clock_.on_enter([this](Phase phase) { entered(phase); });
  step_->set_skipped_steps(progress_.skipped_steps);
}

/// Tells the other ranks where this one is.
void Trainer::entered(Phase phase) {
  const collective::StridedRange own = step_->own_microbatches();
  if (phase == Phase::kLoad) microbatch_ = microbatch_ < 0 ? own.begin : microbatch_ + own.stride;
  const auto place = [&] {
    switch (phase) {
      case Phase::kLoad:
        return collective::Phase::kLoad;
      case Phase::kForward:
        return collective::Phase::kForward;
      case Phase::kBackward:
        return collective::Phase::kBackward;
      case Phase::kReduce:  // adding up its own, until its last microbatch is done
        return microbatch_ + own.stride < own.end ? collective::Phase::kBackward
                                                  : collective::Phase::kExchange;
      case Phase::kWait:
        return collective::Phase::kExchange;
      case Phase::kUpdate:
        return collective::Phase::kUpdate;
      case Phase::kCheckpoint:
        return collective::Phase::kCheckpoint;
    }
    throw std::logic_error("unknown phase");
  };
  job_.side_channel.at({.step = started_, .phase = place(), .microbatch = microbatch_});
}

void Trainer::check_batch() const {
  const config::BatchConfig& batch = job_.stage().batch;
  if (plan_.steps_per_epoch() < 1) {
    throw ConfigError(fmt::format("stage {}: batch.global: {} is more than the {} training samples: lower it",
                                  job_.stage().name, batch.global, train_->size()));
  }
  if (job_.communicator.world_size() > plan_.microbatches()) {
    throw ConfigError(
        fmt::format("stage {}: {} ranks, but a step has only {} microbatches (batch.global {} / batch.micro "
                    "{}): the largest "
                    "useful number of ranks is {}",
                    job_.stage().name, job_.communicator.world_size(), plan_.microbatches(), batch.global,
                    batch.micro, plan_.microbatches()));
  }
  check_sync_batchnorm(job_.stage(), job_.communicator.world_size());
}

void Trainer::build_model() {
  std::string origin;
  on_all_ranks(job_.communicator, "building the model", [&] {
    model_ = model::create(job_.stage().model, job_.stream);
    std::string rates = model::check_drop_rates(*model_, plan_.micro);
    if (job_.is_root()) {
      origin = load_initial_weights(job_, *model_);
      spdlog::info("drop rates\n{}", rates);
      warn_of_equal_submodels(job_.stage(), *model_, plan_.micro);
    }
  });
  model_->to(job_.device);
  state_.emplace(*model_);
  const config::StageConfig& stage = job_.stage();
  optimizer_ = make_optimizer(stage.optimizer, *state_, model::layer_ids(*model_));
  // A random start is drawn by every rank on its own; the hash check at the start proves that they agree.
  if (has_initial_weights(job_)) broadcast_state(job_.communicator, *state_, nullptr, nullptr);
  if (stage.ema > 0) ema_.emplace(state_->values(), stage.ema, stage.ema_warmup);
  std::int64_t parameters = 0;  // without the padding between them
  for (const Slot& slot : state_->parameters()) parameters += slot.numel;
  if (job_.is_root()) {
    spdlog::info("model {}: {} parameters; initial weights: {}", stage.model.name, format_count(parameters),
                 origin);
  }
}

std::string Trainer::checkpoint_of(std::int64_t step) const {
  return fmt::format("{}/step-{:09d}", job_.folder.checkpoints().string(), step);
}

std::optional<checkpoint::Snapshot> Trainer::restore() {
  std::string state_text;
  std::optional<checkpoint::Snapshot> snapshot;
  on_all_ranks(job_.communicator, "loading the newest checkpoint", [&] {
    if (!job_.is_root()) return;
    snapshot = store_->load_newest();
    if (!snapshot) return;
    const std::string where = checkpoint_of(snapshot->step);
    from_state(snapshot->state, job_.file, training_set_, where);
    restore_tensors(*snapshot, *state_, *optimizer_, ema(), where);
    state_text = snapshot->state.dump();
  });
  state_text = text_of_rank_0(job_.communicator, state_text, "progress of the newest checkpoint");
  if (state_text.empty()) return snapshot;
  progress_ =
      from_state(nlohmann::json::parse(state_text), job_.file, training_set_, "the newest checkpoint");
  checkpoint_step_ = progress_.step;
  bad_samples_.restore(progress_.bad_samples);
  broadcast_state(job_.communicator, *state_, optimizer_.get(), ema());
  job_.telemetry.checkpoint_done(checkpoint_step_);
  if (job_.is_root()) spdlog::info("going on from the checkpoint of step {}", progress_.step);
  return snapshot;
}

ExitCode Trainer::run() {
  protocol::Progress progress = job_.telemetry.progress();
  progress.phase = "training";
  progress.step = progress_.step;
  progress.total_steps = schedule_.total_steps();
  progress.val_top1 = progress_.val_top1;
  progress.bad_samples = static_cast<std::int64_t>(progress_.bad_samples.size());
  progress.skipped_steps = progress_.skipped_steps;
  progress.epoch = static_cast<double>(progress_.step) / static_cast<double>(plan_.steps_per_epoch());
  job_.telemetry.set_progress(progress);
  set_current_step(progress_.step);

  bool complete = train();
  if (complete) check_that_something_was_learned();
  if (checkpoint_step_ != progress_.step) commit_checkpoint();
  if (complete) finish();
  // Nobody leaves before rank 0 has committed: the end of one rank is the end of the job.
  job_.communicator.barrier("the end of the stage");
  return complete ? ExitCode::kDone : ExitCode::kInterrupted;
}

data::BadShare::Options Trainer::bad_share_options() const {
  const config::DataConfig& data = job_.stage().data;
  return {.max_share = data.max_bad_share,
          .size = plan_.size,
          .samples_per_step = static_cast<double>(plan_.global) / static_cast<double>(plan_.repeats),
          .block_size = data.shuffle == config::Shuffle::kFull ? 1 : data.shuffle_block,
          .first_step = started_};
}

data::TrainLoader Trainer::open_loader(std::int64_t first_step, std::int64_t end_step) const {
  const config::StageConfig& stage = job_.stage();
  return {train_,
          {.data = stage.data,
           .targets = stage.cosub.targets,
           .classes = stage.model.classes,
           .image_size = stage.model.image_size,
           .stream = job_.stream,
           .plan = plan_,
           .first_step = first_step,
           .end_step = end_step,
           .begin = step_->own_microbatches().begin,
           .end = step_->own_microbatches().end,
           .stride = step_->own_microbatches().stride,
           .delivery = job_.device.is_cpu() ? data::TrainLoader::Delivery::kInputs
                                            : data::TrainLoader::Delivery::kDeviceInputs,
           .device = job_.device,
           .make_decoder = make_decoder_}};
}

bool Trainer::train() {
  started_ = progress_.step;
  if (started_ >= schedule_.total_steps()) return true;
  bad_share_.emplace(bad_share_options());
  data::TrainLoader loader = open_loader(started_, schedule_.total_steps());
  last_checkpoint_ = settled_ = Clock::now();
  while (true) {
    if (const std::optional<StepOutcome> outcome = start_step(loader)) settle(*outcome);
    while (progress_.step < started_ && must_settle())
      settle(explained([&] { return step_->last(); }).value());
    if (progress_.step < started_) continue;  // still on its way to us: nothing is due
    if (started_ == schedule_.total_steps()) return true;
    const Word asked = std::exchange(asked_, {});
    if (asked.stop) {
      if (job_.is_root()) spdlog::info("stopping after step {} as asked, with a checkpoint", progress_.step);
      return false;
    }
    if (validation_due()) validate();
    // Inside a streak of steps that are left out none is written: whoever starts again meets the same streak
    // from its beginning, and the checkpoints before it stay.
    if (asked.checkpoint && progress_.skipped_in_a_row > 0) asked_.checkpoint = true;
    if (asked.checkpoint && progress_.skipped_in_a_row == 0) commit_checkpoint();
    take_seconds();  // neither belongs to the next step
  }
}

/// What may be due after the steps that have been started is decided by all ranks alike, from what they know
/// of the settled ones.
bool Trainer::must_settle() const {
  const config::StageConfig& stage = job_.stage();
  const auto at_multiple_of = [this](std::int64_t every) { return every > 0 && started_ % every == 0; };
  return started_ == schedule_.total_steps() || asked_.stop || asked_.checkpoint ||
         at_multiple_of(stage.checkpoint.every_steps) || at_multiple_of(stage.check_parameters_every_steps) ||
         at_multiple_of(plan_.steps_per_epoch());
}

std::optional<StepOutcome> Trainer::start_step(data::TrainLoader& loader) {
  microbatch_ = -1;
  const Word word{.stop = stop_requested(), .checkpoint = job_.is_root() && checkpoint_due()};
  const auto next = [&] {
    data::Microbatch batch = loader.next();
    bad_samples_.keep_new(batch.bad);
    return batch;
  };
  step_->set_lambda(lambda_at(job_.stage().cosub, plan_.steps_per_epoch(), started_));
  return explained([&] {
    auto outcome = step_->run(started_, next, schedule_.learning_rate(started_), word);
    ++started_;
    return outcome;
  });
}

template <typename Get>
std::optional<StepOutcome> Trainer::explained(Get&& get) {
  try {
    return get();
  } catch (const NonFiniteError& error) {
    explain(progress_.step, /*later_steps=*/0);  // none changed anything
    throw NonFiniteError(fmt::format(
        "{}. With non_finite: skip the same run leaves such steps out, and goes on where it was. {}",
        error.what(), ways_on()));
  }
}

void Trainer::settle(const StepOutcome& outcome) {
  asked_.stop |= outcome.word.stop;
  asked_.checkpoint |= outcome.word.checkpoint;
  if (outcome.skipped) skipped(outcome);
  const double seconds = take_seconds();
  add_bad_samples(outcome);
  const PhaseSeconds phase_seconds = clock_.take();
  count(outcome, seconds, phase_seconds[static_cast<std::size_t>(Phase::kLoad)]);
  job_.telemetry.step_done(outcome, seconds, phase_seconds);
  check_parameters();
  const bool last = progress_.step == schedule_.total_steps();
  if (progress_.interval.steps >= job_.stage().log_every_steps || (last && progress_.interval.steps > 0))
    log_interval(outcome);
}

/// Since it was last asked: between two settled steps, what a step takes.
double Trainer::take_seconds() {
  return std::chrono::duration<double>(Clock::now() - std::exchange(settled_, Clock::now())).count();
}

void Trainer::explain(std::int64_t step, std::int64_t later_steps) {
  explain_non_finite({.job = job_,
                      .model = *model_,
                      .state = *state_,
                      .step = *step_,
                      .number = step,
                      .later_steps = later_steps,
                      .lambda = lambda_at(job_.stage().cosub, plan_.steps_per_epoch(), step),
                      .open_loader = [&] { return open_loader(step, step + 1); }});
}

void Trainer::skipped(const StepOutcome& outcome) {
  constexpr std::int64_t kMostInARow = 20, kMostExplained = 3;
  progress_.skipped_steps = step_->skipped_steps();
  // With late results the next step has been made meanwhile.
  if (progress_.skipped_steps <= kMostExplained)
    explain(progress_.step, std::max<std::int64_t>(0, started_ - progress_.step - 1));
  job_.telemetry.step_skipped();
  if (job_.is_root()) {
    spdlog::warn("step {}: loss {} and gradient norm {}: left out; {} so far", progress_.step, outcome.loss,
                 outcome.gradient_norm, progress_.skipped_steps);
  }
  if (++progress_.skipped_in_a_row < kMostInARow) return;
  throw NonFiniteError(
      fmt::format("step {}: {} steps in a row were not finite, loss {}: training has diverged. {}",
                  progress_.step, kMostInARow, outcome.loss, ways_on()));
}

/// For errors. What decides a run's numbers cannot change in it.
std::string Trainer::ways_on() const {
  std::string text =
      "A lower optimizer.lr, a longer schedule.warmup_epochs or optimizer.clip_norm: 1 make it another run: "
      "give it "
      "another name (--set name=...)";
  if (checkpoint_step_ >= 0)
    text += fmt::format("; its init.weights may be {}/model.safetensors", checkpoint_of(checkpoint_step_));
  return text;
}

/// Few steps may all be left out without being too many in a row.
void Trainer::check_that_something_was_learned() const {
  if (progress_.skipped_in_a_row == 0) return;
  if (progress_.skipped_in_a_row == progress_.step) {
    throw NonFiniteError(
        fmt::format("none of the {} steps was finite: nothing was learned. {}", progress_.step, ways_on()));
  }
  if (job_.is_root()) {
    spdlog::warn(
        "the last {} of {} steps were not finite and are left out: the weights are those before them",
        progress_.skipped_in_a_row, progress_.step);
  }
}

void Trainer::check_parameters() {
  const std::int64_t every = job_.stage().check_parameters_every_steps;
  if (every == 0 || progress_.step % every != 0 || job_.communicator.world_size() == 1) return;
  check_equal_on_all_ranks(job_.communicator, state_->hash(),
                           fmt::format("the hash of the parameters after step {}", progress_.step));
}

/// The sums tell every rank alike whether there is anything to tell; what is told, whether to go on.
void Trainer::add_bad_samples(const StepOutcome& outcome) {
  if (outcome.bad_samples == 0) return;
  const std::int64_t num_new = bad_samples_.exchange(progress_.step);
  job_.telemetry.bad_samples_found(num_new);
  progress_.bad_samples = bad_samples_.known();
  const std::string problem =
      bad_share_->judge(progress_.step, num_new, static_cast<std::int64_t>(progress_.bad_samples.size()));
  if (problem.empty()) return;
  throw AgreedError(
      fmt::format("step {}: {}. They are listed in {}, the last one: {}. Repair the data, or raise "
                  "data.max_bad_share; the same command then goes on from the newest checkpoint",
                  progress_.step, problem, job_.folder.bad_samples().string(), bad_samples_.last_reason()),
      ExitCode::kBadInput, 0);
}

void Trainer::count(const StepOutcome& outcome, double seconds, double wait_seconds) {
  ++progress_.step;
  set_current_step(progress_.step);
  if (progress_.step == started_)
    job_.side_channel.at({.step = progress_.step, .phase = collective::Phase::kBetween});
  IntervalSums& interval = progress_.interval;
  if (!outcome.skipped) {
    progress_.skipped_in_a_row = 0;
    ++interval.steps;
    interval.loss += outcome.loss;
    interval.correct += outcome.correct;
    interval.images += outcome.images;
  }
  progress_.images += outcome.images;
  progress_.seconds += seconds;
  interval_seconds_ += seconds;
  interval_wait_seconds_ += wait_seconds;
  interval_images_ += outcome.images;

  protocol::Progress progress = job_.telemetry.progress();
  progress.step = progress_.step;
  progress.epoch = static_cast<double>(progress_.step) / static_cast<double>(plan_.steps_per_epoch());
  progress.bad_samples = static_cast<std::int64_t>(progress_.bad_samples.size());
  progress.skipped_steps = progress_.skipped_steps;
  // The first steps have no interval behind them: show what is known so far.
  if (progress.images_per_second == 0 && interval.steps > 0)
    progress.loss = interval.loss / static_cast<double>(interval.steps);
  double seconds_per_step = progress_.seconds / static_cast<double>(progress_.step);
  progress.seconds_left = seconds_per_step * static_cast<double>(schedule_.total_steps() - progress_.step);
  job_.telemetry.set_progress(progress);
}

void Trainer::log_interval(const StepOutcome& outcome) {
  IntervalSums interval = std::exchange(progress_.interval, {});
  double seconds = std::exchange(interval_seconds_, 0),
         wait_seconds = std::exchange(interval_wait_seconds_, 0);
  double images = static_cast<double>(std::exchange(interval_images_, 0));

  protocol::Progress progress = job_.telemetry.progress();
  progress.loss = interval.loss / static_cast<double>(interval.steps);
  progress.top1 = interval.correct / static_cast<double>(interval.images);
  progress.images_per_second = seconds > 0 ? images / seconds : 0;
  progress.data_wait = seconds > 0 ? wait_seconds / seconds : 0;
  job_.telemetry.set_progress(progress);
  job_.telemetry.interval_done(progress.loss, progress.top1, progress.data_wait);
  if (!job_.is_root()) return;
  csv_->append({.step = progress_.step,
                .epoch = progress.epoch,
                .loss = progress.loss,
                .top1 = progress.top1,
                .learning_rate = outcome.learning_rate,
                .gradient_norm = outcome.gradient_norm,
                .images_per_second = progress.images_per_second,
                .data_wait = progress.data_wait,
                .bad_samples = progress.bad_samples,
                .val_top1 = progress_.val_top1,
                .skipped_steps = progress_.skipped_steps});
  spdlog::info(
      "step {}/{}  epoch {:.2f}  loss {:.4f}  top-1 {:.3f}  lr {:.2e}  |g| {:.3f}  {:.0f} images/s  "
      "data wait {:.0f} %  {} left",
      progress_.step, schedule_.total_steps(), progress.epoch, progress.loss, progress.top1,
      outcome.learning_rate, outcome.gradient_norm, progress.images_per_second, 100 * progress.data_wait,
      format_duration(progress.seconds_left));
}

bool Trainer::checkpoint_due() const {
  const config::CheckpointConfig& options = job_.stage().checkpoint;
  bool by_steps = options.every_steps > 0 && (started_ + 1) % options.every_steps == 0;
  return by_steps || Clock::now() - last_checkpoint_ >= options.every;
}

/// Here, and not in the exchange of the next step, since rank 0's storage may take longer than a step's
/// limit: for as long as nobody is found silent several times in a row.
void Trainer::wait_for_checkpoint() {
  constexpr int kSilences = 3;
  const Clock::time_point begin = Clock::now();
  int silences = 0;
  job_.communicator.meet(fmt::format("the checkpoint of step {}", progress_.step), [&] {
    const bool is_silent = collective::diagnose(job_.side_channel.board(), job_.communicator.rank()).silent;
    silences = is_silent ? silences + 1 : 0;
    return silences < kSilences && Clock::now() - begin < job_.stage().checkpoint.timeout;
  });
}

void Trainer::commit_checkpoint() {
  job_.side_channel.at({.step = progress_.step, .phase = collective::Phase::kCheckpoint});
  checkpoint::Snapshot snapshot;
  add_kept(snapshot, job_.communicator, *state_, step_->kept());
  if (job_.is_root()) {
    std::string phase = job_.telemetry.progress().phase;
    job_.telemetry.set_phase("checkpointing");
    clock_.timed(Phase::kCheckpoint, [&] {
      snapshot.step = progress_.step;
      snapshot.state = to_state(
          progress_, job_.file, training_set_,
          complete_timm_config(*model_, job_.stage().data, model::training_scales(*model_, plan_.micro)));
      add_tensors(snapshot, *state_, *optimizer_, ema());
      store_->commit(snapshot);
    });
    job_.telemetry.set_phase(phase);
    spdlog::info("checkpoint of step {} written", progress_.step);
  }
  wait_for_checkpoint();
  last_checkpoint_ = Clock::now();
  checkpoint_step_ = progress_.step;
  job_.telemetry.checkpoint_done(checkpoint_step_);
  job_.side_channel.at({.step = progress_.step, .phase = collective::Phase::kBetween});
}

bool Trainer::validation_due() const {
  if (!val_ || progress_.step % plan_.steps_per_epoch() != 0) return false;
  // A training image costs about three forward passes a view. Validate where that adds at most a twentieth.
  std::int64_t views = job_.stage().cosub.enabled ? 2 : 1;
  return val_->size() * 20 <= plan_.steps_per_epoch() * plan_.global * 3 * views;
}

EvalResult Trainer::validate() {
  std::string phase = job_.telemetry.progress().phase;
  job_.telemetry.set_phase("evaluating");
  std::optional<SwappedValues> averaged;
  if (ema_) averaged.emplace(state_->values(), ema_->average());
  const AutocastScope autocast(job_.stage().precision, job_.device);
  const auto show = [this](double share) {
    job_.side_channel.at({.step = progress_.step,
                          .phase = collective::Phase::kEvaluate,
                          .microbatch = static_cast<std::int64_t>(100 * share)});
  };
  show(0);
  EvalResult result = evaluate(*model_, job_.communicator,
                               {.source = val_, .data = job_.stage().data, .pass = {}, .on_progress = show});
  progress_.val_top1 = result.top1;
  progress_.val_step = progress_.step;
  progress_.best_val_top1 = std::max(progress_.best_val_top1, result.top1);

  protocol::Progress progress = job_.telemetry.progress();
  progress.val_top1 = result.top1;
  progress.phase = phase;
  job_.telemetry.set_progress(progress);
  if (job_.is_root())
    spdlog::info("validation after step {}: top-1 {:.4f}, top-5 {:.4f}, loss {:.4f} on {} images{}",
                 progress_.step, result.top1, result.top5, result.loss, result.images, ema_ ? " (EMA)" : "");
  return result;
}

void Trainer::finish() {
  StageResult result{
      .step = progress_.step, .metrics = {}, .export_path = {}, .samples = 0, .param_hash = {}};
  if (val_) {
    EvalResult validation = validate();
    add_metrics(result.metrics, "", validation);
    result.samples = validation.images;
  }
  result.metrics["skipped_steps"] = static_cast<double>(progress_.skipped_steps);
  result.metrics["bad_samples"] = static_cast<double>(progress_.bad_samples.size());
  result.param_hash = state_->hash();
  check_equal_on_all_ranks(job_.communicator, result.param_hash, "the hash of the parameters at the end");
  write_result(job_, result);
}

}  // namespace cosub::train
