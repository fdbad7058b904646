#include "worker/tools/which_weights.h"

#include "common/error.h"

namespace cosub::tools {

void add_which(CLI::App& app, std::string& which) {
  app.add_option("--which", which, "of a checkpoint: ema or model; default: ema where there is one")
      ->check(CLI::IsMember({"ema", "model"}));
}

train::LoadedModel load_which(const std::filesystem::path& path, const std::string& which,
                              std::int64_t image_size_px) {
  train::LoadedModel loaded = train::load_model(path, which.empty() ? "ema" : which, image_size_px);
  // Whole, as it was just read: a file that is not there was never written.
  const bool is_checkpoint = std::filesystem::exists(path / "MANIFEST.json");
  if (which == "ema" && is_checkpoint && !std::filesystem::exists(path / "ema.safetensors"))
    throw ConfigError("--which ema: this checkpoint keeps none (ema: 0); allowed: model");
  return loaded;
}

}  // namespace cosub::tools
