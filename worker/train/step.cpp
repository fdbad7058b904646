#include "worker/train/step.h"

#include <fmt/format.h>

#include <cmath>

#include "common/error.h"
#include "worker/train/cosub_loss.h"

namespace cosub::train {
namespace {

// Places in the vector's tail.
enum Tail : std::int64_t { kLoss, kCorrect, kImages, kBadSamples, kStop, kCheckpoint, kTailSize };

collective::StridedRange own_microbatches_of(const config::StageConfig& stage,
                                             const collective::Communicator& communicator) {
  check_sync_batchnorm(stage, communicator.world_size());
  return collective::microbatches_of(communicator.rank(), communicator.world_size(),
                                     stage.batch.global / stage.batch.micro, stage.sync_batchnorm);
}

}  // namespace

TrainStep::TrainStep(Parts parts, const config::StageConfig& stage, std::uint64_t stream)
    : parts_(parts),
      stage_(stage),
      stream_(stream),
      num_microbatches_(stage.batch.global / stage.batch.micro),
      own_(own_microbatches_of(stage, parts.communicator)) {
  std::int64_t num_gradients = parts.state.num_parameters();
  std::int64_t num_statistics = parts.model.batch_statistics().size();
  vector_ = at::zeros({num_gradients + num_statistics + kTailSize}, parts.state.values().options());
  gradients_ = vector_.narrow(0, 0, num_gradients);
  statistics_ = vector_.narrow(0, num_gradients, num_statistics);
  tail_ = vector_.narrow(0, num_gradients + num_statistics, kTailSize);
  parts.state.bind_gradients(gradients_);
  reduction_ = make_reduction();
}

std::unique_ptr<collective::StepReduction> TrainStep::make_reduction() {
  collective::Communicator& communicator = parts_.communicator;
  const collective::ReductionOptions options{
      .kind = stage_.reduction, .num_microbatches = num_microbatches_, .size = vector_.numel()};
  if (stage_.sync_batchnorm == 1) return collective::make_step_reduction(communicator, options);
  sync_batch_norm_ =
      std::make_unique<SyncBatchNorm>(parts_.model.batch_statistics(), communicator, stage_.sync_batchnorm);
  return collective::make_grouped_reduction(communicator, sync_batch_norm_->group(), options);
}

StepOutcome TrainStep::run(std::int64_t step, const std::function<data::Microbatch()>& next,
                           double learning_rate, Word word) {
  parts_.model.train();
  reduction_->begin(step);
  for (std::int64_t m = own_.begin; m < own_.end; m += own_.stride) {
    data::Microbatch batch = parts_.clock.timed(Phase::kLoad, next);
    forward_backward(batch);
    tail_[kStop].fill_(word.stop ? 1.0 : 0.0);
    tail_[kCheckpoint].fill_(word.checkpoint ? 1.0 : 0.0);
    parts_.clock.timed(Phase::kReduce, [&] { reduction_->add(m, vector_); });
  }
  parts_.clock.timed(Phase::kReduce, [&] { vector_.copy_(reduction_->finish()); });

  StepOutcome outcome = read_sums(step);
  outcome.learning_rate = learning_rate;
  parts_.clock.timed(Phase::kUpdate, [&] { update(step, outcome); });
  return outcome;
}

void TrainStep::forward_backward(const data::Microbatch& batch) {
  vector_.zero_();
  parts_.model.batch_statistics().write_to(statistics_);
  at::Tensor images = batch.images.to(vector_.device());
  at::Tensor targets = batch.targets.to(vector_.device());
  at::Tensor logits, loss;
  if (sync_batch_norm_) sync_batch_norm_->begin(batch.step, batch.index);
  parts_.clock.timed(Phase::kForward, [&] {
    parts_.model.seam().begin(pass_for(batch));
    logits = parts_.model.forward(images);
    // Each microbatch has the same number of images, so the sum over them is the mean over the global batch.
    loss = cosub_loss(logits, targets, stage_.cosub, stage_.cosub.lambda) /
           static_cast<double>(num_microbatches_);
  });
  parts_.clock.timed(Phase::kBackward, [&] { loss.backward(); });
  write_sums(batch, logits, loss);
}

model::Pass TrainStep::pass_for(const data::Microbatch& batch) const {
  model::Pass pass;
  pass.kind = model::Pass::Kind::kTrain;
  pass.images = batch.images.size(0);
  pass.views = stage_.cosub.enabled ? 2 : 1;
  pass.share_stem = stage_.cosub.share_stem;
  auto mode = stage_.model.stochastic_depth == config::StochasticDepth::kFixed ? model::DepthMode::kFixed
                                                                               : model::DepthMode::kBernoulli;
  pass.kept = model::draw_kept_rows(parts_.model.seam().branches(), mode, pass.images, pass.views, stream_,
                                    batch.step, batch.index);
  return pass;
}

void TrainStep::write_sums(const data::Microbatch& batch, const at::Tensor& logits, const at::Tensor& loss) {
  at::NoGradGuard no_grad;
  std::int64_t images = batch.targets.size(0);
  std::int64_t views = logits.size(0) / images;
  at::Tensor wanted = batch.targets.argmax(1).to(logits.device()).repeat({views});
  tail_[kLoss].copy_(loss.detach());
  tail_[kCorrect].copy_(logits.detach().argmax(1).eq(wanted).sum().to(at::kFloat) /
                        static_cast<double>(views));
  tail_[kImages].fill_(static_cast<double>(images));
  tail_[kBadSamples].fill_(static_cast<double>(batch.bad.size()));
}

StepOutcome TrainStep::read_sums(std::int64_t step) const {
  at::Tensor tail = tail_.to(at::kCPU, at::kDouble);
  const double* sums = tail.const_data_ptr<double>();
  StepOutcome outcome;
  outcome.loss = sums[kLoss];
  outcome.correct = sums[kCorrect];
  outcome.images = std::llround(sums[kImages]);
  outcome.bad_samples = std::llround(sums[kBadSamples]);
  outcome.word = {.stop = sums[kStop] > 0, .checkpoint = sums[kCheckpoint] > 0};
  outcome.gradient_norm = global_norm(gradients_);
  if (!std::isfinite(outcome.loss) || !std::isfinite(outcome.gradient_norm)) {
    throw NonFiniteError(
        fmt::format("step {}: loss {} and gradient norm {}: training diverged. Nothing was updated. Try a "
                    "lower optimizer.lr, a "
                    "longer schedule.warmup_epochs, or optimizer.clip_norm: 1.",
                    step, outcome.loss, outcome.gradient_norm));
  }
  return outcome;
}

void TrainStep::update(std::int64_t step, StepOutcome& outcome) {
  at::NoGradGuard no_grad;
  clip_to_norm(gradients_, outcome.gradient_norm, stage_.optimizer.clip_norm);
  parts_.optimizer.update(parts_.state.values().narrow(0, 0, gradients_.numel()), gradients_, step,
                          outcome.learning_rate);
  parts_.model.batch_statistics().update_running(statistics_, num_microbatches_);
  if (parts_.ema != nullptr) parts_.ema->update(parts_.state.values(), step);
}

}  // namespace cosub::train
