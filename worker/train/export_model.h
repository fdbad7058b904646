// A model as a folder that timm loads: config.json + model.safetensors (timm.create_model("local-dir:FOLDER",
// pretrained=True)). Equal weights give equal bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/config/pipeline.h"
#include "worker/model/model.h"

namespace cosub::train {

/// Backbone::timm_config() with the mean and std that the model was trained with (defaults filled in), and
/// below "cosub" what timm has no word for: block_scales (model::training_scales), unless all of them are 1.
nlohmann::json complete_timm_config(const model::Backbone& model, const config::DataConfig& data,
                                    const std::vector<double>& block_scales = {});

/// Writes `folder` through a temporary beside it, reads the weights back, compares them bit by bit, and
/// renames; a folder that is there is replaced. Returns the SHA-256 of model.safetensors. IoError, or Error
/// when what was read back differs.
std::string export_model(model::Backbone& model, const nlohmann::json& timm_config,
                         const std::filesystem::path& folder);

/// A model built from an exported folder, a checkpoint folder (its EMA where it has one, or `weights`: ema |
/// model), or a .safetensors file with config.json beside it.
struct LoadedModel {
  std::shared_ptr<model::Backbone> model;  // eval mode
  config::DataConfig data;                 // mean and std as trained with
  std::vector<double> block_scales;        // by block, as in training; all 1 where that is unknown
  nlohmann::json timm_config;
  std::string description;  // for people
};

/// At another image size than it was trained at where `image_size_px` is positive. DataError or ConfigError
/// naming path, what was found, and what is accepted.
LoadedModel load_model(const std::filesystem::path& path, const std::string& weights = "ema",
                       std::int64_t image_size_px = 0);

}  // namespace cosub::train
