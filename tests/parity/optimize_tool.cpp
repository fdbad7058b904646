// `optimize_tool train NAME --weights W --input FILE --output FILE ...`: updates of a model by the worker's
// own optimizer code. The input file holds recorded gradients (grad.K.NAME of step K), or recorded
// microbatches (input [B, C, S, S], target [B, classes], and kept.K.I, scale.K.I: rows that branch I keeps in
// step K), of which loss and gradients are computed. Output: all parameters after the last step.
#include <fmt/format.h>

#include "worker/model/tensor_file.h"
#include "worker/tools/model_arguments.h"
#include "worker/train/cosub_loss.h"
#include "worker/train/optimizer.h"

namespace {

using namespace cosub;
using Tensors = std::map<std::string, at::Tensor>;

struct Arguments {
  tools::ModelArguments model;
  std::filesystem::path input, output;
  config::OptimizerConfig optimizer;
  std::int64_t steps = 20;
};

model::Pass pass_of(const Tensors& tensors, std::int64_t step, std::size_t num_branches,
                    std::int64_t images) {
  model::Pass pass;
  pass.kind = model::Pass::Kind::kTrain;
  pass.images = images;
  pass.views = 2;
  pass.kept.branches.resize(num_branches);
  for (std::size_t i = 0; i < num_branches; ++i) {
    const auto rows = tensors.find(fmt::format("kept.{}.{}", step, i));
    if (rows == tensors.end()) continue;
    const auto* begin = rows->second.const_data_ptr<std::int64_t>();
    pass.kept.branches[i] = {false,
                             {begin, begin + rows->second.numel()},
                             tensors.at(fmt::format("scale.{}.{}", step, i)).item<double>()};
  }
  return pass;
}

void compute_gradients(model::Backbone& model, const Tensors& tensors, std::int64_t step,
                       at::ScalarType dtype) {
  const at::Tensor images = tensors.at("input").to(dtype), targets = tensors.at("target").to(dtype);
  model.train();
  model.seam().begin(pass_of(tensors, step, model.seam().branches().size(), images.size(0)));
  train::cosub_loss(model.forward(images), targets, {}, 0.5).backward();
}

void copy_gradients(const train::FlatState& state, const at::Tensor& gradients, const Tensors& tensors,
                    std::int64_t step) {
  for (const train::Slot& slot : state.parameters())
    train::FlatState::view(gradients, slot).copy_(tensors.at(fmt::format("grad.{}.{}", step, slot.name)));
}

void run(const Arguments& arguments) {
  const Tensors tensors = model::read_tensors(arguments.input);
  const auto model = arguments.model.build(tensors.at("input"));
  train::FlatState state(*model);
  const auto optimizer = train::make_optimizer(arguments.optimizer, state, model::layer_ids(*model));
  const at::Tensor values = state.values().narrow(0, 0, state.num_parameters());
  const at::Tensor gradients = at::zeros_like(values);
  state.bind_gradients(gradients);
  for (std::int64_t step = 0; step < arguments.steps; ++step) {
    gradients.zero_();
    if (tensors.contains(fmt::format("grad.{}.{}", step, state.parameters()[0].name))) {
      copy_gradients(state, gradients, tensors, step);
    } else {
      compute_gradients(*model, tensors, step, values.scalar_type());
    }
    train::clip_to_norm(gradients, train::global_norm(gradients), arguments.optimizer.clip_norm);
    optimizer->update(values, gradients, step, arguments.optimizer.lr);
  }
  Tensors output;
  for (const train::Slot& slot : state.parameters()) output[slot.name] = train::FlatState::view(values, slot);
  model::write_tensors(arguments.output, output);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Updates of a model from recorded gradients or microbatches", "train");
  arguments.model.declare(app);
  config::OptimizerConfig& rule = arguments.optimizer;
  app.add_option("--input", arguments.input)->required();
  app.add_option("--output", arguments.output)->required();
  app.add_option("--steps", arguments.steps);
  app.add_option("--optimizer", rule.name);
  app.add_option("--lr", rule.lr);
  app.add_option("--weight-decay", rule.weight_decay);
  app.add_option("--eps", rule.eps);
  app.add_option("--momentum", rule.momentum);
  app.add_flag("--nesterov,!--no-nesterov", rule.nesterov);
  app.add_option("--max-grad-norm", rule.max_grad_norm);
  app.add_option("--clip-norm", rule.clip_norm);
  app.add_option("--layer-decay", rule.layer_decay);
  return tools::run_tool(app, argc - 1, argv + 1, [&] { run(arguments); });
}
