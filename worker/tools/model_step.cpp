#include "worker/tools/model_step.h"

#include <fmt/format.h>

#include "common/config/names.h"
#include "common/error.h"
#include "worker/model/tensor_file.h"
#include "worker/tools/choice.h"
#include "worker/tools/model_arguments.h"
#include "worker/tools/number_check.h"
#include "worker/train/cosub_loss.h"
#include "worker/train/precision.h"
#include "worker/train/recorded_step.h"

namespace cosub {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

struct StepArguments {
  tools::ModelArguments model;
  std::filesystem::path input, output;
  config::CosubConfig cosub;
  config::Precision precision = config::Precision::kFp32;
  double drop_rate = 0.0;
  model::DepthMode depth = model::DepthMode::kFixed;
  std::uint64_t stream = 0;
  std::int64_t step = 0, microbatch = 0;
};

model::KeptRows recorded_rows(const Tensors& tensors, std::size_t num_branches,
                              const std::filesystem::path& path, std::int64_t num_rows) {
  model::KeptRows kept;
  kept.branches.resize(num_branches);
  for (std::size_t i = 0; i < num_branches; ++i) {
    const auto rows = tensors.find(fmt::format("kept.{}", i));
    if (rows == tensors.end()) continue;
    const auto scale = tensors.find(fmt::format("scale.{}", i));
    const bool fits = rows->second.scalar_type() == at::kLong && rows->second.dim() == 1 &&
                      scale != tensors.end() && scale->second.numel() == 1;
    if (!fits) {
      throw DataError(
          fmt::format("{}: kept.{} must be int64 [n], with one number in scale.{}", path.string(), i, i));
    }
    const auto* begin = rows->second.const_data_ptr<std::int64_t>();
    model::KeptRows::Branch& branch = kept.branches[i];
    branch = {false, {begin, begin + rows->second.numel()}, scale->second.item<double>()};
    for (const std::int64_t row : branch.rows) {
      if (row >= 0 && row < num_rows) continue;
      throw DataError(
          fmt::format("{}: kept.{}: row {} is not in 0..{}", path.string(), i, row, num_rows - 1));
    }
  }
  return kept;
}

model::KeptRows kept_rows(const StepArguments& arguments, const Tensors& tensors, model::Backbone& backbone,
                          std::int64_t images, std::int64_t views) {
  model::ResidualSeam& seam = backbone.seam();
  const auto first = tensors.lower_bound("kept.");
  if (first != tensors.end() && first->first.starts_with("kept.")) {
    return recorded_rows(tensors, seam.branches().size(), arguments.input, views * images);
  }
  seam.set_drop_rates(std::vector<double>(static_cast<std::size_t>(seam.num_blocks()), arguments.drop_rate));
  return model::draw_kept_rows(seam.branches(), arguments.depth, images, views, arguments.stream,
                               arguments.step, arguments.microbatch);
}

void add_kept_rows(const model::KeptRows& kept, Tensors& output) {
  for (std::size_t i = 0; i < kept.branches.size(); ++i) {
    if (kept.branches[i].all) continue;
    output[fmt::format("kept.{}", i)] = at::tensor(kept.branches[i].rows, at::kLong);
    output[fmt::format("scale.{}", i)] = at::tensor(kept.branches[i].scale, at::kDouble);
  }
}

void add_gradients(model::Backbone& backbone, Tensors& output) {
  for (const auto& item : backbone.named_parameters()) {
    const at::Tensor& gradient = item.value().grad();
    output["grad." + item.key()] = gradient.defined() ? gradient : at::zeros_like(item.value());
  }
}

void add_batch_statistics(model::Backbone& backbone, const at::Tensor& flat, Tensors& output) {
  std::map<const torch::nn::Module*, std::string> names;
  for (const auto& item : backbone.named_modules()) names[item.value().get()] = item.key();
  std::int64_t offset = 0;
  for (const model::BatchNorm2d* layer : backbone.batch_statistics().layers()) {
    const std::int64_t channels = layer->running_mean.size(0);
    const std::string name = "bn." + names.at(layer);
    output[name + ".mean"] = flat.narrow(0, offset, channels);
    output[name + ".var"] = flat.narrow(0, offset + channels, channels);
    offset += 2 * channels;
  }
}

/// What the input file says of its step holds wherever no option says otherwise.
void complete(const CLI::App& app, StepArguments& arguments) {
  const train::RecordedStep recorded =
      train::from_metadata(model::read_metadata(arguments.input), arguments.input.string());
  const auto take = [&app](const char* option, auto& mine, const auto& theirs) {
    if (app.count(option) == 0) mine = theirs;
  };
  arguments.model.recorded = recorded.model;
  take("--loss", arguments.cosub.loss, recorded.cosub.loss);
  take("--lambda", arguments.cosub.lambda, recorded.cosub.lambda);
  take("--bce-reduction", arguments.cosub.bce_reduction, recorded.cosub.bce_reduction);
  take("--cosub", arguments.cosub.enabled, recorded.cosub.enabled);
  take("--share-stem", arguments.cosub.share_stem, recorded.cosub.share_stem);
  take("--precision", arguments.precision, recorded.precision);
  if (arguments.model.float64) arguments.precision = config::Precision::kFp32;
  if (recorded.later_updates > 0)
    fmt::print("the weights beside this file are those after {} more step(s) than the microbatch met\n",
               recorded.later_updates);
}

void step(const StepArguments& arguments) {
  const Tensors tensors = model::read_tensors(arguments.input);
  const at::ScalarType dtype = arguments.model.float64 ? at::kDouble : at::kFloat;
  const at::Tensor input = tools::float_tensor(tensors, "input", 4, arguments.input).to(dtype);
  const at::Tensor target = tools::float_tensor(tensors, "target", 2, arguments.input).to(dtype);
  const auto backbone = arguments.model.build(input);
  if (target.size(0) != input.size(0) || target.size(1) != backbone->config().classes) {
    throw DataError(fmt::format("{}: target must be [{}, {}]", arguments.input.string(), input.size(0),
                                backbone->config().classes));
  }
  backbone->train();
  const at::Tensor statistics = at::zeros({backbone->batch_statistics().size()}, at::dtype(dtype));
  backbone->batch_statistics().write_to(statistics);

  model::Pass pass;
  pass.kind = model::Pass::Kind::kTrain;
  pass.images = input.size(0);
  pass.views = arguments.cosub.enabled ? 2 : 1;
  pass.share_stem = arguments.cosub.share_stem;
  pass.kept = kept_rows(arguments, tensors, *backbone, pass.images, pass.views);
  backbone->seam().begin(pass);
  train::set_product_precision(arguments.precision);
  const auto forward = [&] {
    const train::AutocastScope autocast(arguments.precision, input.device());
    return backbone->forward(input);
  };
  const at::Tensor logits = forward().to(dtype);
  const at::Tensor loss = train::cosub_loss(logits, target, arguments.cosub, arguments.cosub.lambda);
  loss.backward();
  fmt::print("loss {}\n", loss.item<double>());

  Tensors output = {{"logits", logits}, {"loss", loss}};
  add_kept_rows(pass.kept, output);
  add_gradients(*backbone, output);
  add_batch_statistics(*backbone, statistics, output);
  model::write_tensors(arguments.output, output);
}

constexpr const char* kHelp =
    "Loss and gradients of one recorded microbatch.\n"
    "Input file: input [B, C, S, S], target [B, classes]; optionally kept.I (int64 [n], rows of the 2B that "
    "branch I\n"
    "keeps) and scale.I (one number); a branch without them keeps all rows. Without any, rows are drawn "
    "from\n"
    "--drop-rate, --depth, --stream, --step and --microbatch as in training. A file of STAGE/non-finite/ "
    "says "
    "how its\n"
    "step was computed (model, loss, lambda, precision ...); options given here go first.\n"
    "Output file: logits, loss, grad.NAME for each parameter, bn.NAME.mean and bn.NAME.var for each "
    "BatchNorm,\n"
    "kept.I and scale.I as used.";

void declare(CLI::App& app, StepArguments& arguments) {
  const config::Names<model::DepthMode> depths = {{"fixed", model::DepthMode::kFixed},
                                                  {"bernoulli", model::DepthMode::kBernoulli}};
  arguments.model.declare(app);
  app.add_option("--input", arguments.input, "safetensors file, see above")->required();
  app.add_option("--output", arguments.output, "safetensors file to write; must not exist")->required();
  tools::add_choice(app, "--loss", arguments.cosub.loss, config::kLossNames, "bce or ce (bce)");
  app.add_option("--lambda", arguments.cosub.lambda, "Weight of the other submodel's prediction, 0 to 1")
      ->check(tools::number_in(config::share()));
  tools::add_choice(app, "--bce-reduction", arguments.cosub.bce_reduction, config::kBceReductionNames,
                    "Over classes: mean or sum (mean)");
  tools::add_choice(app, "--precision", arguments.precision, config::kPrecisionNames,
                    "fp32, tf32 or bf16 (fp32)");
  app.add_flag("--cosub,!--no-cosub", arguments.cosub.enabled,
               "Two views and the cosub loss (default), or one view");
  app.add_flag("--share-stem,!--no-share-stem", arguments.cosub.share_stem,
               "Compute once what comes before the first branch that drops (default)");
  app.add_option("--drop-rate", arguments.drop_rate, "Of every branch, when rows are drawn")
      ->check(tools::number_in(config::share_below_one()));
  tools::add_choice(app, "--depth", arguments.depth, depths, "fixed or bernoulli (fixed)");
  app.add_option("--stream", arguments.stream, "Key of the draws: the stage's stream");
  app.add_option("--step", arguments.step, "Key of the draws: optimizer step");
  app.add_option("--microbatch", arguments.microbatch, "Key of the draws: index within the step");
}

}  // namespace

int run_model_step(int argc, char** argv) {
  StepArguments arguments;
  CLI::App app(kHelp, "cosub-worker model step");
  declare(app, arguments);
  return tools::run_tool(app, argc, argv, [&] {
    complete(app, arguments);
    step(arguments);
  });
}

}  // namespace cosub
