#include "worker/train/step.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "common/error.h"
#include "worker/train/cosub_loss.h"
#include "worker/train/precision.h"

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

std::vector<std::string> parameter_names(const model::Backbone& backbone) {
  std::vector<std::string> names;
  for (const auto& parameter : backbone.named_parameters()) names.push_back(parameter.key());
  return names;
}

}  // namespace

TrainStep::TrainStep(Parts parts, const config::StageConfig& stage, std::uint64_t stream)
    : parts_(std::move(parts)),
      stage_(stage),
      stream_(stream),
      num_microbatches_(stage.batch.global / stage.batch.micro),
      lambda_(stage.cosub.lambda),
      own_(own_microbatches_of(stage, parts_.communicator)) {
  std::int64_t num_gradients = parts_.state.num_parameters();
  std::int64_t num_statistics = parts_.model.batch_statistics().size();
  vector_ = at::zeros({num_gradients + num_statistics + kTailSize}, parts_.state.values().options());
  gradients_ = vector_.narrow(0, 0, num_gradients);
  statistics_ = vector_.narrow(0, num_gradients, num_statistics);
  tail_ = vector_.narrow(0, num_gradients + num_statistics, kTailSize);
  reduced_ = vector_;
  parts_.state.bind_gradients(gradients_);
  reduction_ = make_reduction();
  if (reduction_->overlaps()) {
    readiness_ = std::make_unique<GradientReadiness>(
        parts_.state, reduction_->buckets(), [this](std::size_t bucket) { reduction_->ready(bucket); });
  }
  set_product_precision(stage.precision);
}

std::unique_ptr<collective::StepReduction> TrainStep::make_reduction() {
  const std::int64_t num_gradients = gradients_.numel();
  collective::ReductionOptions options{.kind = stage_.reduction,
                                       .num_microbatches = num_microbatches_,
                                       .size = vector_.numel(),
                                       .tensor = vector_.options(),
                                       .overlap = stage_.exchange.overlap,
                                       .compress = stage_.exchange.compress == config::Compress::kBf16,
                                       .first_exact = num_gradients,
                                       .error_feedback = stage_.exchange.error_feedback,
                                       .on_bucket = parts_.on_bucket};
  const double bucket_bytes = stage_.exchange.bucket_mib * 1024 * 1024;
  const auto bucket_floats =
      std::max<std::int64_t>(1, std::llround(bucket_bytes / static_cast<double>(vector_.element_size())));
  options.buckets = gradient_buckets(parts_.state, parameter_names(parts_.model), bucket_floats);
  // Branches that are computed again in the backward pass write their batch statistics again.
  const bool tail_is_final = !stage_.model.activation_checkpointing;
  options.buckets.insert(tail_is_final ? options.buckets.begin() : options.buckets.end(),
                         {num_gradients, vector_.numel()});
  if (stage_.sync_batchnorm == 1) return collective::make_step_reduction(parts_.communicator, options);
  sync_batch_norm_ = std::make_unique<SyncBatchNorm>(parts_.model.batch_statistics(), parts_.communicator,
                                                     stage_.sync_batchnorm);
  return collective::make_grouped_reduction(parts_.communicator, sync_batch_norm_->group(), options);
}

StepOutcome TrainStep::run(std::int64_t step, const std::function<data::Microbatch()>& next,
                           double learning_rate, Word word) {
  parts_.model.train();
  reduction_->begin(step);
  for (std::int64_t m = own_.begin; m < own_.end; m += own_.stride) {
    data::Microbatch batch = parts_.clock.timed(Phase::kLoad, next);
    run_microbatch(batch, word, /*is_last=*/m + own_.stride >= own_.end);
  }
  parts_.clock.timed(Phase::kReduce, [&] { reduced_ = reduction_->finish(); });

  StepOutcome outcome = read_sums(step);
  outcome.learning_rate = learning_rate;
  if (outcome.skipped) {
    ++skipped_steps_;
  } else {
    parts_.clock.timed(Phase::kUpdate, [&] { update(step - skipped_steps_, outcome); });
  }
  return outcome;
}

void TrainStep::run_microbatch(const data::Microbatch& batch, Word word, bool is_last) {
  const at::Tensor loss = forward(batch);
  tail_[kStop].fill_(word.stop ? 1.0 : 0.0);
  tail_[kCheckpoint].fill_(word.checkpoint ? 1.0 : 0.0);
  if (is_last) reduction_->add_last(batch.index, vector_);
  if (is_last && readiness_) readiness_->arm();
  parts_.clock.timed(Phase::kBackward, [&] { loss.backward(); });
  if (is_last && readiness_) readiness_->finish();
  if (!is_last) parts_.clock.timed(Phase::kReduce, [&] { reduction_->add(batch.index, vector_); });
}

/// Everything of the vector but gradients, word and what is not this microbatch's.
at::Tensor TrainStep::forward(const data::Microbatch& batch) {
  vector_.zero_();
  parts_.model.batch_statistics().write_to(statistics_);
  at::Tensor images = batch.images.to(vector_.options());
  at::Tensor targets = batch.targets.to(vector_.options());
  at::Tensor logits, loss;
  if (sync_batch_norm_) sync_batch_norm_->begin(batch.step, batch.index);
  parts_.clock.timed(Phase::kForward, [&] {
    parts_.model.seam().begin(pass_for(batch));
    {
      const AutocastScope autocast(stage_.precision, vector_.device());
      logits = parts_.model.forward(images);
    }
    logits = logits.to(vector_.scalar_type());
    // Each microbatch has the same number of images, so the sum over them is the mean over the global batch.
    loss = cosub_loss(logits, targets, stage_.cosub, lambda_) / static_cast<double>(num_microbatches_);
  });
  write_sums(batch, logits, loss);
  return loss;
}

bool TrainStep::is_finite(const data::Microbatch& batch) {
  parts_.model.train();
  forward(batch).backward();
  return tail_[kLoss].isfinite().item<bool>() && std::isfinite(global_norm(gradients_));
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
  at::Tensor tail = reduced_.narrow(0, reduced_.numel() - kTailSize, kTailSize).to(at::kCPU, at::kDouble);
  const double* sums = tail.const_data_ptr<double>();
  StepOutcome outcome;
  outcome.loss = sums[kLoss];
  outcome.correct = sums[kCorrect];
  outcome.images = std::llround(sums[kImages]);
  outcome.bad_samples = std::llround(sums[kBadSamples]);
  outcome.word = {.stop = sums[kStop] > 0, .checkpoint = sums[kCheckpoint] > 0};
  outcome.gradient_norm = global_norm(reduced_.narrow(0, 0, gradients_.numel()));
  if (std::isfinite(outcome.loss) && std::isfinite(outcome.gradient_norm)) return outcome;
  outcome.skipped = true;
  if (stage_.non_finite == config::NonFinite::kSkip) return outcome;
  throw NonFiniteError(fmt::format(
      "step {}: loss {} and gradient norm {}: training diverged. Nothing was updated. Try a lower "
      "optimizer.lr, a longer schedule.warmup_epochs, or optimizer.clip_norm: 1; non_finite: skip "
      "leaves single steps out.",
      step, outcome.loss, outcome.gradient_norm));
}

void TrainStep::update(std::int64_t updates, StepOutcome& outcome) {
  at::NoGradGuard no_grad;
  const at::Tensor gradients = reduced_.narrow(0, 0, gradients_.numel());
  clip_to_norm(gradients, outcome.gradient_norm, stage_.optimizer.clip_norm);
  parts_.optimizer.update(parts_.state.values().narrow(0, 0, gradients.numel()), gradients, updates,
                          outcome.learning_rate);
  parts_.model.batch_statistics().update_running(reduced_.narrow(0, gradients.numel(), statistics_.numel()),
                                                 num_microbatches_);
  if (parts_.ema != nullptr) parts_.ema->update(parts_.state.values(), updates);
}

}  // namespace cosub::train
