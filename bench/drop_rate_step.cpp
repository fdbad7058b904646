// drop_rate_step: what efficient stochastic depth saves. One cosub training step (forward, loss, backward,
// AdamW) of one model at a drop rate against the same step at 0.0, paired: A B B A ..., ratio per pair.
//   build/release/bench/drop_rate_step --model vit_tiny_patch16_224 --drop-rate 0.5 --threads 2
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <vector>

#include "common/error.h"
#include "common/text.h"
#include "worker/model/model.h"
#include "worker/train/cosub_loss.h"

namespace {

using namespace cosub;

struct Options {
  config::ModelConfig model;
  std::int64_t images = 8;
  int threads = 1;
  int pairs = 5;
};

/// A model with its optimizer state and one fixed microbatch.
class Training {
 public:
  Training(config::ModelConfig config, double drop_rate, std::int64_t images) : images_(images) {
    config.drop_rate = drop_rate;
    config.drop_rate_rule = config::DropRateRule::kUniform;
    config.allow_rounded_drop_rate = true;
    model_ = model::create(config, 1);
    model_->train();
    statistics_ = at::zeros({std::max<std::int64_t>(1, model_->batch_statistics().size())});
    for (const auto& parameter : model_->parameters()) {
      parameters_.push_back(parameter);
      first_.push_back(at::zeros_like(parameter));
      second_.push_back(at::zeros_like(parameter));
      steps_.push_back(at::zeros({}));
    }
    const std::int64_t size = config.image_size;
    input_ = at::randn({images, config.channels, size, size});
    target_ = at::one_hot(at::arange(images) % config.classes, config.classes).to(at::kFloat);
  }

  double step_seconds() {
    const auto start = std::chrono::steady_clock::now();
    model::Pass pass;
    pass.kind = model::Pass::Kind::kTrain;
    pass.images = images_;
    pass.views = 2;
    pass.kept =
        model::draw_kept_rows(model_->seam().branches(), model::DepthMode::kFixed, images_, 2, 1, step_, 0);
    model_->seam().begin(pass);
    if (model_->batch_statistics().size() > 0) model_->batch_statistics().write_to(statistics_);
    const at::Tensor logits = model_->forward(input_);
    train::cosub_loss(logits, target_, config::CosubConfig{}, 0.5).backward();
    std::vector<at::Tensor> gradients;
    for (auto& parameter : parameters_) gradients.push_back(parameter.grad());
    {
      at::NoGradGuard no_grad;
      for (auto& count : steps_) count.add_(1);
      at::_fused_adamw_(parameters_, gradients, first_, second_, {}, steps_, 1e-4, 0.9, 0.999, 0.05, 1e-8,
                        false, false);
      for (auto& parameter : parameters_) parameter.mutable_grad().reset();
    }
    ++step_;
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  std::int64_t images_;
  std::int64_t step_ = 0;
  std::shared_ptr<model::Backbone> model_;
  std::vector<at::Tensor> parameters_, first_, second_, steps_;
  at::Tensor statistics_, input_, target_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::string spread(const std::vector<double>& values, double scale, int digits) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return fmt::format("{:.{}f} / {:.{}f} / {:.{}f}", *low * scale, digits, median(values) * scale, digits,
                     *high * scale, digits);
}

int run(const Options& options) {
  at::set_num_threads(options.threads);
  at::manual_seed(1);
  Training plain(options.model, 0.0, options.images),
      dropping(options.model, options.model.drop_rate, options.images);
  plain.step_seconds();
  dropping.step_seconds();
  std::vector<double> at_zero, at_rate, ratios;
  for (int pair = 0; pair < options.pairs; ++pair) {
    const bool swap = pair % 2 == 1;
    const double first = (swap ? dropping : plain).step_seconds();
    const double second = (swap ? plain : dropping).step_seconds();
    at_zero.push_back(swap ? second : first);
    at_rate.push_back(swap ? first : second);
    ratios.push_back(at_rate.back() / at_zero.back());
  }
  fmt::print("{}: {} images, 2 views, {} thread(s), {} pairs (min / median / max)\n{}", options.model.name,
             options.images, options.threads, options.pairs,
             table({{"drop rate", "step, ms"},
                    {"0.00", spread(at_zero, 1e3, 1)},
                    {fmt::format("{:.2f}", options.model.drop_rate), spread(at_rate, 1e3, 1)},
                    {"ratio", spread(ratios, 1, 3)}}));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  options.model.name = "vit_tiny_patch16_224";
  options.model.classes = 1000;
  options.model.drop_rate = 0.5;
  CLI::App app{"Times one cosub step at a drop rate against the same step at 0.0, paired"};
  app.add_option("--model", options.model.name, "timm's name")->capture_default_str();
  app.add_option("--image-size", options.model.image_size, "Pixels")->capture_default_str();
  app.add_option("--drop-rate", options.model.drop_rate, "Against 0.0")->capture_default_str();
  app.add_option("--images", options.images, "Per microbatch; twice as many rows")->capture_default_str();
  app.add_option("--threads", options.threads, "Of LibTorch")->capture_default_str();
  app.add_option("--pairs", options.pairs, "Timed pairs")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options);
  } catch (const Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return static_cast<int>(error.exit_code());
  }
}
