#include "worker/tools/model_forward.h"

#include "common/atomic_file.h"
#include "worker/model/tensor_file.h"
#include "worker/tools/model_arguments.h"

namespace cosub {
namespace {

struct ForwardArguments {
  tools::ModelArguments model;
  std::filesystem::path input, output, timm_config;
  std::string keep = "all";
};

void forward(const ForwardArguments& arguments) {
  const auto tensors = model::read_tensors(arguments.input);
  const at::Tensor input = tools::float_tensor(tensors, "input", 4, arguments.input);
  const auto backbone = arguments.model.build(input);
  backbone->eval();

  model::Pass pass;
  pass.images = input.size(0);
  if (arguments.keep != "all") {
    pass.kind = model::Pass::Kind::kSubmodel;
    pass.keep_block = model::parse_keep(arguments.keep, backbone->seam().num_blocks());
  }
  const at::NoGradGuard no_grad;
  const at::Tensor images = input.to(arguments.model.float64 ? at::kDouble : at::kFloat);
  backbone->seam().begin(pass);
  const at::Tensor logits = backbone->forward(images);
  backbone->seam().begin(pass);
  const at::Tensor features = backbone->forward_features(images);
  model::write_tensors(arguments.output, {{"logits", logits}, {"features", features}});
  if (!arguments.timm_config.empty()) {
    write_file_atomically(arguments.timm_config, backbone->timm_config().dump(2) + "\n");
  }
}

}  // namespace

int run_model_forward(int argc, char** argv) {
  ForwardArguments arguments;
  CLI::App app(
      "Logits and features of a model in eval mode.\n"
      "Input file: input [B, C, S, S]. Output file: logits [B, classes], features [B, num_features].",
      "cosub-worker model forward");
  arguments.model.declare(app);
  app.add_option("--input", arguments.input, "safetensors file with the tensor input")->required();
  app.add_option("--output", arguments.output, "safetensors file to write; must not exist")->required();
  app.add_option("--keep", arguments.keep, "Blocks of a submodel: all, even, odd, first:N, last:N or 0,2,5");
  app.add_option("--timm-config", arguments.timm_config,
                 "Also write the model's config.json in timm's format here");
  return tools::run_tool(app, argc, argv, [&] { forward(arguments); });
}

}  // namespace cosub
