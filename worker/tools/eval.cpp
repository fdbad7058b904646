#include "worker/tools/eval.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/text.h"
#include "worker/collective/single_communicator.h"
#include "worker/data/source.h"
#include "worker/tools/which_weights.h"
#include "worker/train/evaluator.h"
#include "worker/train/export_model.h"
#include "worker/train/recalibrate.h"

namespace cosub::tools {
namespace {

struct Row {
  std::string name;
  train::EvalResult result;
};

std::vector<Row> evaluate_all(const EvalOptions& options, train::LoadedModel& loaded,
                              const std::shared_ptr<const data::Source>& source) {
  collective::SingleCommunicator alone;
  std::vector<Row> rows;
  auto evaluate = [&](const std::string& name, const model::Pass& pass) {
    rows.push_back(
        {name, train::evaluate(*loaded.model, alone,
                               {.source = source, .data = loaded.data, .pass = pass, .on_progress = {}})});
  };
  if (options.keep.empty()) evaluate("full model", {});
  for (const std::string& keep : options.keep) {
    for (const std::string& scale : options.branch_scales) {
      const model::Pass pass = submodel_pass(loaded, keep, scale);
      if (options.recalibrate_bn > 0) recalibrate(loaded, pass, options.recalibrate_bn, options.calibration);
      evaluate("keep " + keep + (scale == "train" ? ", branch scale as in training" : ""), pass);
    }
  }
  return rows;
}

void print_json(const EvalOptions& options, const std::vector<Row>& rows) {
  nlohmann::json json = {{"weights", options.weights.string()}, {"images", rows.front().result.images}};
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const train::EvalResult& result = rows[i].result;
    nlohmann::json numbers = {{"top1", result.top1}, {"top5", result.top5}, {"loss", result.loss}};
    if (options.keep.empty())
      json.update(numbers);
    else
      json["submodels"][options.keep[i / options.branch_scales.size()]]
          ["branch_scale_" + options.branch_scales[i % options.branch_scales.size()]] = numbers;
  }
  fmt::print("{}\n", json.dump(2));
}

void print_table(const std::string& description, const std::vector<Row>& rows) {
  std::vector<std::vector<std::string>> cells{{"model", "top-1 %", "top-5 %", "loss", "images"}};
  for (const Row& row : rows) {
    cells.push_back({row.name, fmt::format("{:.2f}", 100 * row.result.top1),
                     fmt::format("{:.2f}", 100 * row.result.top5), fmt::format("{:.4f}", row.result.loss),
                     std::to_string(row.result.images)});
  }
  fmt::print("{}\n{}", description, table(cells));
}

}  // namespace

model::Pass submodel_pass(const train::LoadedModel& loaded, const std::string& keep,
                          const std::string& branch_scale) {
  model::Pass pass;
  pass.kind = model::Pass::Kind::kSubmodel;
  pass.keep_block = model::parse_keep(keep, loaded.model->seam().num_blocks());
  if (branch_scale == "train") pass.block_scale = loaded.block_scales;
  return pass;
}

void recalibrate(train::LoadedModel& loaded, const model::Pass& pass, std::int64_t num_images,
                 const SourceArguments& calibration) {
  if (!calibration.given()) {
    throw ConfigError(
        "--recalibrate-bn needs training images, not those that the model is judged by: "
        "--calibration-folder, "
        "--calibration-shards, or --calibration-images and --calibration-labels");
  }
  const model::Backbone& model = *loaded.model;
  config::SourceConfig source = calibration.get();
  if (source.limit == 0) source.limit = num_images;
  train::recalibrate_batch_norm(*loaded.model,
                                data::open_source(source, model.config().channels, model.config().classes),
                                loaded.data, pass, num_images);
}

ExitCode run_eval(const EvalOptions& options) {
  at::set_num_threads(static_cast<int>(options.threads));
  train::LoadedModel loaded = load_which(options.weights, options.which, options.image_size);
  const model::Backbone& model = *loaded.model;
  const std::shared_ptr<const data::Source> images =
      data::open_source(options.source.get(), model.config().channels, model.config().classes);
  if (options.crop_ratio > 0) loaded.data.crop_ratio = options.crop_ratio;
  loaded.data.loader_threads = options.threads;
  std::vector<Row> rows = evaluate_all(options, loaded, images);
  if (options.json)
    print_json(options, rows);
  else
    print_table(loaded.description, rows);
  return ExitCode::kDone;
}

}  // namespace cosub::tools
