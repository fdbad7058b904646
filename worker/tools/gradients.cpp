#include "worker/tools/gradients.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cstdio>
#include <optional>

#include "common/config/names.h"
#include "common/config/pipeline.h"
#include "common/error.h"
#include "common/random.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/collective/communicator.h"
#include "worker/data/loader.h"
#include "worker/model/model.h"
#include "worker/train/phase_clock.h"
#include "worker/train/progress_state.h"
#include "worker/train/schedule.h"
#include "worker/train/snapshot.h"
#include "worker/train/step.h"

namespace cosub::tools {

namespace {

config::StageFile read_stage(const GradientsOptions& options) {
  config::StageFile file = config::load_stage_file(options.stage_yaml);
  if (const auto* reduction = config::value_of(config::kReductionNames, options.reduction)) {
    file.stage.reduction = *reduction;
  }
  return file;
}

checkpoint::Tensors named_gradients(const train::FlatState& state, const at::Tensor& gradients) {
  checkpoint::Tensors named;
  for (const train::Slot& slot : state.parameters()) {
    named[slot.name] = train::FlatState::view(gradients, slot).contiguous();
  }
  return named;
}

}  // namespace

ExitCode run_gradients(const GradientsOptions& options) {
  const auto communicator = collective::connect();
  const config::StageFile file = read_stage(options);
  const config::StageConfig& stage = file.stage;
  at::set_num_threads(static_cast<int>(stage.threads));
  const std::uint64_t stream = stream_seed(file.seed, stage.name);

  std::shared_ptr<const data::Source> source =
      data::open_source(stage.data.train, stage.model.channels, stage.model.classes);
  const data::StepPlan plan = data::plan_of(stage, source->size());
  const auto model = model::create(stage.model, stream);
  train::FlatState state(*model);
  const auto optimizer = train::make_optimizer(stage.optimizer, state);
  std::optional<train::Ema> ema;
  if (stage.ema > 0) ema.emplace(state.values(), stage.ema, stage.ema_warmup);
  const checkpoint::Snapshot snapshot = checkpoint::read(options.checkpoint);
  train::restore_tensors(snapshot, state, *optimizer, ema ? &*ema : nullptr, options.checkpoint.string());

  train::PhaseClock clock;
  train::TrainStep step({.model = *model,
                         .state = state,
                         .optimizer = *optimizer,
                         .ema = nullptr,
                         .communicator = *communicator,
                         .clock = clock},
                        stage, stream);
  const data::TrainLoader::Options loading{.data = stage.data,
                                           .targets = stage.cosub.targets,
                                           .classes = stage.model.classes,
                                           .image_size = stage.model.image_size,
                                           .stream = stream,
                                           .plan = plan,
                                           .first_step = snapshot.step,
                                           .end_step = snapshot.step + 1,
                                           .begin = step.own_microbatches().begin,
                                           .end = step.own_microbatches().end,
                                           .stride = step.own_microbatches().stride};
  data::TrainLoader loader(source, loading);
  const train::StepOutcome outcome =
      step.run(snapshot.step, [&loader] { return loader.next(); }, /*learning_rate=*/0.0, {}).value();
  if (communicator->rank() == 0) {
    checkpoint::save_tensors(options.output, named_gradients(state, step.vector()));
    fmt::print("step {}: loss {:.6f}, gradient norm {:.6f}, {} rank(s); gradients in {}\n", snapshot.step,
               outcome.loss, outcome.gradient_norm, communicator->world_size(), options.output.string());
  }
  communicator->barrier("the end of gradients");
  return ExitCode::kDone;
}

}  // namespace cosub::tools
