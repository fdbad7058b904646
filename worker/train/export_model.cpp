#include "worker/train/export_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/process.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/model/weights.h"

namespace cosub::train {
namespace {

namespace fs = std::filesystem;

std::vector<double> per_channel(std::vector<double> values, std::int64_t channels) {
  if (values.empty()) values.assign(static_cast<std::size_t>(channels), 0.5);
  return values;
}

/// Reads back what was written: a disk that loses bytes must not produce a released model.
void check_written(const fs::path& file, const checkpoint::Tensors& tensors) {
  checkpoint::Tensors read = checkpoint::load_tensors(file);
  for (const auto& [name, tensor] : tensors) {
    auto found = read.find(name);
    if (found == read.end() || !found->second.equal(tensor))
      throw Error(fmt::format("{}: tensor {} reads back differently from what was written: check the disk",
                              file.string(), name));
  }
}

config::DataConfig data_of(const nlohmann::json& timm_config) {
  config::DataConfig data;
  const nlohmann::json& pretrained = timm_config.at("pretrained_cfg");
  data.mean = pretrained.value("mean", std::vector<double>{});
  data.std = pretrained.value("std", std::vector<double>{});
  data.crop_ratio = pretrained.value("crop_pct", 1.0);
  data.interpolation = pretrained.value("interpolation", "bicubic") == "bilinear"
                           ? config::Interpolation::kBilinear
                           : config::Interpolation::kBicubic;
  return data;
}

std::vector<double> block_scales_of(const nlohmann::json& timm_config, std::int64_t num_blocks) {
  std::vector<double> scales(static_cast<std::size_t>(num_blocks), 1.0);
  const nlohmann::json given = timm_config.value("/cosub/block_scales"_json_pointer, nlohmann::json::array());
  const bool fits =
      given.size() == scales.size() &&
      std::all_of(given.begin(), given.end(), [](const auto& scale) { return scale.is_number(); });
  if (fits) scales = given.get<std::vector<double>>();
  return scales;
}

nlohmann::json parse_json(const fs::path& file) {
  try {
    return nlohmann::json::parse(read_file(file));
  } catch (const nlohmann::json::exception& error) {
    throw DataError(fmt::format("{}: not JSON: {}", file.string(), error.what()));
  }
}

LoadedModel build(const nlohmann::json& timm_config, checkpoint::Tensors tensors, const std::string& origin,
                  std::int64_t image_size_px) {
  LoadedModel loaded;
  config::ModelConfig config = model::model_config_from_timm(timm_config);
  if (image_size_px > 0) config.image_size = image_size_px;
  loaded.model = model::create(config, std::nullopt);
  model::load_state(*loaded.model, std::move(tensors), model::HeadPolicy::kKeep, origin);
  loaded.model->eval();
  loaded.data = data_of(timm_config);
  loaded.block_scales = block_scales_of(timm_config, loaded.model->seam().num_blocks());
  loaded.timm_config = complete_timm_config(*loaded.model, loaded.data, loaded.block_scales);
  loaded.description = origin;
  return loaded;
}

LoadedModel load_checkpoint(const fs::path& folder, const std::string& weights, std::int64_t image_size_px) {
  checkpoint::Snapshot snapshot = checkpoint::read(folder);
  std::string which = weights == "ema" && !snapshot.files.contains("ema") ? "model" : weights;
  if (!snapshot.files.contains(which)) {
    throw ConfigError(fmt::format("{}: weights '{}' are not in this checkpoint (allowed: ema, model)",
                                  folder.string(), which));
  }
  if (!snapshot.state.contains("model"))
    throw DataError((folder / "state.json").string() + ": the model's description is missing");
  return build(snapshot.state.at("model"), std::move(snapshot.files.at(which)),
               (folder / (which + ".safetensors")).string(), image_size_px);
}

}  // namespace

nlohmann::json complete_timm_config(const model::Backbone& model, const config::DataConfig& data,
                                    const std::vector<double>& block_scales) {
  nlohmann::json config = model.timm_config();
  const bool is_scaled =
      std::any_of(block_scales.begin(), block_scales.end(), [](double s) { return s != 1.0; });
  if (is_scaled) config["cosub"]["block_scales"] = block_scales;
  nlohmann::json& pretrained = config["pretrained_cfg"];
  pretrained["mean"] = per_channel(data.mean, model.config().channels);
  pretrained["std"] = per_channel(data.std, model.config().channels);
  pretrained["crop_pct"] = data.crop_ratio;
  pretrained["interpolation"] =
      data.interpolation == config::Interpolation::kBilinear ? "bilinear" : "bicubic";
  return config;
}

std::string export_model(model::Backbone& model, const nlohmann::json& timm_config, const fs::path& folder) {
  fs::path parent = folder.has_parent_path() ? folder.parent_path() : fs::path(".");
  fs::path temporary = parent / fmt::format(".{}.{}", folder.filename().string(), new_uuid());
  checkpoint::Tensors tensors;
  for (const auto& [name, tensor] : model::state_of(model))
    tensors[name] = tensor.detach().cpu().contiguous();
  try {
    fs::create_directories(temporary);
    checkpoint::save_tensors(temporary / "model.safetensors", tensors, {{"format", "pt"}});
    write_file_atomically(temporary / "config.json", timm_config.dump(2) + "\n");
    check_written(temporary / "model.safetensors", tensors);
    std::string sha256 = sha256_file(temporary / "model.safetensors");
    fs::path replaced = temporary.string() + ".replaced";
    bool there = fs::exists(folder);
    if (there) fs::rename(folder, replaced);
    fs::rename(temporary, folder);
    fsync_path(parent);
    if (there) fs::remove_all(replaced);
    return sha256;
  } catch (const fs::filesystem_error& error) {
    throw IoError(fmt::format("export to {}: {}", folder.string(), error.what()));
  } catch (...) {
    std::error_code ignored;  // the first error is the one to tell
    fs::remove_all(temporary, ignored);
    throw;
  }
}

LoadedModel load_model(const fs::path& path, const std::string& weights, std::int64_t image_size_px) {
  if (fs::is_directory(path) && fs::exists(path / "MANIFEST.json"))
    return load_checkpoint(path, weights, image_size_px);
  fs::path file = fs::is_directory(path) ? path / "model.safetensors" : path;
  fs::path config = file.parent_path() / "config.json";
  if (!fs::exists(file) || !fs::exists(config)) {
    throw ConfigError(
        fmt::format("{}: {} not found. Accepted: an exported folder (config.json and model.safetensors), a "
                    "checkpoint folder "
                    "(.../checkpoints/step-...), or a .safetensors file with config.json beside it.",
                    path.string(), fs::exists(file) ? config.string() : file.string()));
  }
  return build(parse_json(config), checkpoint::load_tensors(file), file.string(), image_size_px);
}

}  // namespace cosub::train
