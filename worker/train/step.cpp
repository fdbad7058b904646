#include "worker/train/step.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/error.h"
#include "worker/model/gradient_in_place.h"
#include "worker/train/cosub_loss.h"
#include "worker/train/device.h"
#include "worker/train/precision.h"

namespace cosub::train {
namespace {

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
      own_(own_microbatches_of(stage, parts_.communicator)),
      inputs_(parts_.state.values().options(), /*fixed=*/parts_.graph != nullptr),
      scalars_(parts_.state.values().device()),
      sent_(parts_.late_results),
      graph_(std::move(parts_.graph)) {
  std::int64_t num_gradients = parts_.state.num_parameters();
  std::int64_t num_statistics = parts_.model.batch_statistics().size();
  vector_ = at::zeros({num_gradients + num_statistics + StepResults::kSums}, parts_.state.values().options());
  gradients_ = vector_.narrow(0, 0, num_gradients);
  statistics_ = vector_.narrow(0, num_gradients, num_statistics);
  tail_ = vector_.narrow(0, num_gradients + num_statistics, StepResults::kSums);
  reduced_ = vector_;
  const at::TensorOptions numbers = at::dtype(at::kDouble).device(vector_.device());
  results_ = at::zeros({StepResults::kNumbers}, numbers);
  alive_ = at::ones({}, numbers.dtype(at::kBool));
  parts_.state.bind_gradients(gradients_);
  for (const Slot& slot : parts_.state.parameters()) parameters_.push_back(slot.tensor);
  reduction_ = make_reduction();
  if (reduction_->overlaps()) {
    readiness_ = std::make_unique<GradientReadiness>(
        parts_.state, reduction_->buckets(), [this](std::size_t bucket) { reduction_->ready(bucket); });
  }
  set_numerics(stage);
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

std::optional<StepOutcome> TrainStep::run(std::int64_t step, const std::function<data::Microbatch()>& next,
                                          double learning_rate, Word word) {
  parts_.model.train();
  scalars_.at(UpdateScalars::kLearningRate).fill_(learning_rate);
  if (!std::exchange(counts_updates_, true))
    scalars_.at(UpdateScalars::kUpdates).fill_(static_cast<double>(step - skipped_steps_));
  parts_.communicator.set_step(step);
  if (graph_) {
    for (std::size_t place = 0; place < num_own(); ++place) load(place, next, word);
    graph_->run([&] {
      compute(
          step, [this](std::size_t place) -> auto& { return inputs_.at(place); });
    });
  } else {
    compute(
        step, [&](std::size_t) -> auto& { return load(0, next, word); });
  }
  sent_.send(step, learning_rate, results_);
  return checked(sent_.take_due());
}

std::optional<StepOutcome> TrainStep::last() {
  return checked(sent_.take());
}

std::optional<StepOutcome> TrainStep::checked(std::optional<StepOutcome> outcome) {
  if (outcome)
    parts_.communicator.check();  // or the numbers of a GPU's broken exchange would be taken for true
  if (!outcome || !outcome->skipped) return outcome;
  ++skipped_steps_;
  if (stage_.non_finite == config::NonFinite::kSkip) return outcome;
  throw NonFiniteError(
      fmt::format("step {}: loss {} and gradient norm {}: training diverged, nothing was updated",
                  outcome->step, outcome->loss, outcome->gradient_norm));
}

std::size_t TrainStep::num_own() const {
  return static_cast<std::size_t>((own_.end - own_.begin + own_.stride - 1) / own_.stride);
}

const MicrobatchInputs& TrainStep::load(std::size_t place, const std::function<data::Microbatch()>& next,
                                        Word word) {
  return put(place, parts_.clock.timed(Phase::kLoad, next), word);
}

const MicrobatchInputs& TrainStep::put(std::size_t place, const data::Microbatch& batch, Word word) {
  return inputs_.put(
      place, batch, pass_for(batch),
      {lambda_, word.stop ? 1.0 : 0.0, word.checkpoint ? 1.0 : 0.0, static_cast<double>(batch.bad.size())});
}

/// All that the device does in a step. A graph replays it: no number of the host's that changes from step to
/// step may be used here, but for what errors and metrics say.
void TrainStep::compute(std::int64_t step,
                        const std::function<const MicrobatchInputs&(std::size_t)>& microbatch) {
  reduction_->begin(step);
  for (std::size_t place = 0; place < num_own(); ++place)
    run_microbatch(microbatch(place), /*is_last=*/place + 1 == num_own());
  parts_.clock.timed(Phase::kReduce, [&] { reduced_ = reduction_->finish(); });
  parts_.clock.move(Phase::kReduce, Phase::kWait, reduction_->take_wait_for_ranks());
  parts_.clock.timed(Phase::kUpdate, [&] {
    decide();
    update();
  });
}

void TrainStep::run_microbatch(const MicrobatchInputs& inputs, bool is_last) {
  const at::Tensor loss = forward(inputs);
  if (is_last) reduction_->add_last(inputs.index, vector_);
  if (is_last && readiness_) readiness_->arm();
  parts_.clock.timed(Phase::kBackward, [&] { loss.backward(); });
  if (is_last && readiness_) readiness_->finish();
  if (!is_last) parts_.clock.timed(Phase::kReduce, [&] { reduction_->add(inputs.index, vector_); });
}

/// Everything of the vector but gradients, and what is not this microbatch's.
at::Tensor TrainStep::forward(const MicrobatchInputs& inputs) {
  vector_.zero_();
  model::gradients_are_zero(parameters_);
  parts_.model.batch_statistics().write_to(statistics_);
  at::Tensor logits, loss;
  if (sync_batch_norm_) sync_batch_norm_->begin(inputs.step, inputs.index);
  parts_.clock.timed(Phase::kForward, [&] {
    parts_.model.seam().begin(inputs.pass);
    {
      const AutocastScope autocast(stage_.precision, vector_.device());
      logits = parts_.model.forward(inputs.images);
    }
    logits = logits.to(vector_.scalar_type());
    const bool mixes = stage_.cosub.lambda != 0 || stage_.cosub.lambda_start != 0;
    const at::Tensor lambda = mixes ? inputs.numbers.select(0, MicrobatchInputs::kLambda) : at::Tensor();
    // Each microbatch has the same number of images, so the sum over them is the mean over the global batch.
    loss = cosub_loss(logits, inputs.targets, stage_.cosub, lambda) / static_cast<double>(num_microbatches_);
  });
  write_sums(inputs, logits, loss);
  return loss;
}

bool TrainStep::is_finite(const data::Microbatch& batch) {
  parts_.model.train();
  std::optional<SyncBatchNorm::Apart> apart;  // or one that is not finite makes all of its group so
  if (sync_batch_norm_) apart.emplace(*sync_batch_norm_);
  forward(put(0, batch, {})).backward();
  return tail_[StepResults::kLoss].isfinite().item<bool>() && std::isfinite(global_norm(gradients_));
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

void TrainStep::write_sums(const MicrobatchInputs& inputs, const at::Tensor& logits, const at::Tensor& loss) {
  const at::NoGradGuard no_grad;
  const std::int64_t images = inputs.targets.size(0);
  const std::int64_t views = logits.size(0) / images;
  // Of mixed images all classes are right that no other surpasses: with targets: binarize both.
  const at::Tensor predicted = logits.detach().argmax(1).view({views, images}).t();
  const at::Tensor correct = inputs.targets.gather(1, predicted).eq(inputs.targets.amax(1, /*keepdim=*/true));
  tail_[StepResults::kLoss].copy_(loss.detach());
  tail_[StepResults::kCorrect].copy_(correct.sum().to(at::kFloat) / static_cast<double>(views));
  tail_[StepResults::kImages].fill_(static_cast<double>(images));
  const std::pair<StepResults::Sum, MicrobatchInputs::Number> given[] = {
      {StepResults::kBadSamples, MicrobatchInputs::kBadSamples},
      {StepResults::kStop, MicrobatchInputs::kStop},
      {StepResults::kCheckpoint, MicrobatchInputs::kCheckpoint}};
  for (const auto& [sum, number] : given) tail_[sum].copy_(inputs.numbers[number]);
}

/// Whether the step applies, and what the update needs to know.
void TrainStep::decide() {
  const at::NoGradGuard no_grad;
  results_.narrow(0, 0, StepResults::kSums)
      .copy_(reduced_.narrow(0, reduced_.numel() - StepResults::kSums, StepResults::kSums));
  const at::Tensor norm = norm_of(reduced_.narrow(0, 0, gradients_.numel()));
  const at::Tensor finite = results_[StepResults::kLoss].isfinite().logical_and_(norm.isfinite());
  results_[StepResults::kNorm].copy_(norm);
  results_[StepResults::kFinite].copy_(finite);
  if (stage_.non_finite == config::NonFinite::kStop) alive_.logical_and_(finite);
  const at::Tensor factor = clip_factor(norm, stage_.optimizer.clip_norm);
  const at::Tensor applies = alive_.logical_and(finite);
  reduction_->settle(applies);
  scalars_.at(UpdateScalars::kApplies).copy_(applies);
  scalars_.at(UpdateScalars::kGradientFactor).copy_(factor);
  scalars_.at(UpdateScalars::kGradientNorm).copy_(norm * factor);
}

void TrainStep::update() {
  const at::NoGradGuard no_grad;
  const at::Tensor gradients = reduced_.narrow(0, 0, gradients_.numel());
  const at::Tensor& values = parts_.state.values();
  parts_.optimizer.update(values.narrow(0, 0, gradients.numel()), gradients, scalars_, parts_.ema);
  const at::Tensor applies = scalars_.at(UpdateScalars::kApplies);
  parts_.model.batch_statistics().update_running(reduced_.narrow(0, gradients.numel(), statistics_.numel()),
                                                 num_microbatches_, applies);
  if (parts_.ema != nullptr)
    parts_.ema->follow(values, gradients.numel(), values.numel(), scalars_);  // buffers
  scalars_.at(UpdateScalars::kUpdates).add_(applies);
}

}  // namespace cosub::train
