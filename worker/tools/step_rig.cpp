#include "worker/tools/step_rig.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

#include "common/error.h"
#include "worker/model/tensor_file.h"
#include "worker/model/weights.h"

namespace cosub::tools {

StepRig::StepRig(config::StageConfig stage, std::int64_t accumulate, std::uint64_t seed,
                 const std::filesystem::path& weights, collective::Communicator& communicator,
                 at::Device device, bool late_results)
    : stage_(std::move(stage)), device_(device), late_results_(late_results) {
  at::set_num_threads(static_cast<int>(stage_.threads));
  stage_.batch.global = stage_.batch.micro * accumulate * communicator.world_size();
  model_ = model::create(stage_.model, weights.empty() ? std::optional(seed) : std::nullopt);
  model::check_drop_rates(*model_, stage_.batch.micro);
  if (!weights.empty()) {
    model::load_state(*model_, model::read_tensors(weights), model::HeadPolicy::kKeep, weights.string());
  }
  model_->to(device);
  state_.emplace(*model_);
  optimizer_ = train::make_optimizer(stage_.optimizer, *state_);
  if (stage_.ema > 0) ema_.emplace(state_->values(), stage_.ema, stage_.ema_warmup);
  step_.emplace(
      train::TrainStep::Parts{.model = *model_,
                              .state = *state_,
                              .optimizer = *optimizer_,
                              .ema = ema_ ? &*ema_ : nullptr,
                              .communicator = communicator,
                              .clock = clock_,
                              .graph = train::make_step_graph(stage_, device, communicator.world_size()),
                              .late_results = late_results},
      stage_, seed);
  const collective::StridedRange own = step_->own_microbatches();
  for (std::int64_t m = own.begin; m < own.end; m += own.stride) microbatches_.push_back(draw(m, seed));
}

data::Microbatch StepRig::draw(std::int64_t index, std::uint64_t seed) const {
  const config::ModelConfig& model = stage_.model;
  const std::int64_t images = stage_.batch.micro;
  at::Generator generator =
      at::make_generator<at::CPUGeneratorImpl>(seed * 1'000'003 + static_cast<std::uint64_t>(index));
  data::Microbatch batch;
  batch.index = index;
  batch.images =
      at::randn({images, model.channels, model.image_size, model.image_size}, generator).to(device_);
  batch.targets =
      at::one_hot(at::randint(model.classes, {images}, generator, at::kLong), model.classes).to(at::kFloat);
  return batch;
}

std::optional<train::StepOutcome> StepRig::run_ahead() {
  auto next = microbatches_.begin();
  const auto take = [&] {
    data::Microbatch batch = *next++;
    batch.step = next_step_;
    return batch;
  };
  std::optional<train::StepOutcome> due = step_->run(next_step_, take, stage_.optimizer.lr, {});
  ++next_step_;
  return due;
}

train::StepOutcome StepRig::last() {
  return step_->last().value();
}

train::StepOutcome StepRig::run() {
  std::optional<train::StepOutcome> outcome = run_ahead();
  if (late_results_) outcome = last();
  if (!device_.is_cpu()) {
    c10::impl::VirtualGuardImpl(device_.type()).synchronizeDevice(device_.index());
  }
  return outcome.value();
}

std::int64_t StepRig::parameter_bytes() const {
  return state_->num_parameters() * static_cast<std::int64_t>(step_->vector().element_size());
}

model::Pass StepRig::pass_for(std::int64_t step, std::int64_t own) const {
  data::Microbatch batch = microbatches_.at(static_cast<std::size_t>(own));
  batch.step = step;
  return step_->pass_for(batch);
}

}  // namespace cosub::tools
