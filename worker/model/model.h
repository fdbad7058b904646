// A vision backbone under timm's names: parameters, buffers, forward. Built by the registry (create); one
// file per architecture family implements it. Owned by whoever trains or evaluates; not thread-safe.
#pragma once

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/config/pipeline.h"
#include "worker/model/batch_norm.h"
#include "worker/model/residual.h"

namespace cosub::model {

/// How position embeddings [1, prefix_tokens + side * side, D] are laid out; side 0: the model has none.
struct PositionGrid {
  std::int64_t prefix_tokens = 0;
  std::int64_t side = 0;
};

/// Parameters and persistent buffers carry exactly the names that timm's class of the same model gives them,
/// so that named_parameters() and named_buffers() are timm's state_dict.
class Backbone : public torch::nn::Module {
 public:
  /// images: [B, C, H, W] float (normalised) -> logits [views * B, classes] float.
  virtual at::Tensor forward(const at::Tensor& images) = 0;
  /// The pooled features before the classifier: [views * B, features].
  virtual at::Tensor forward_features(const at::Tensor& images) = 0;

  /// Names of parameters that get no weight decay beside all 1-D tensors and biases (timm's
  /// no_weight_decay()).
  virtual std::vector<std::string> no_weight_decay() const { return {}; }
  /// The classifier's module name: head or fc.
  virtual std::string classifier() const = 0;
  virtual PositionGrid position_grid() const { return {}; }
  /// timm's config.json: architecture, num_classes, num_features, global_pool, model_args and pretrained_cfg,
  /// to which the exporter adds mean and std. timm.create_model('local-dir:FOLDER', pretrained=True) loads
  /// it.
  virtual nlohmann::json timm_config() const = 0;

  ResidualSeam& seam() { return seam_; }
  BatchStatistics& batch_statistics() { return batch_statistics_; }
  const config::ModelConfig& config() const { return config_; }

 protected:
  explicit Backbone(config::ModelConfig config) : config_(std::move(config)) {}
  ResidualSeam seam_;
  BatchStatistics batch_statistics_;
  config::ModelConfig config_;
};

/// Builds a model on CPU in float32. Each parameter is drawn from (stream, kInit, its name), so that initial
/// weights depend on nothing else. ConfigError for unknown names (nearest suggested) and for keys the family
/// does not know.
std::shared_ptr<Backbone> create(const config::ModelConfig& config, std::uint64_t stream);

std::vector<std::string> model_names();

/// The model that a config.json in timm's format describes (drop rates at their defaults). ConfigError naming
/// the key when it is not one of ours or lacks something.
config::ModelConfig model_config_from_timm(const nlohmann::json& timm_config);

/// Sets each branch's drop rate from config (uniform: d everywhere; linear: d * i / (n-1) over blocks).
/// create() does it.
void set_drop_rates(Backbone& backbone);

/// Sets them and throws ConfigError where the effective rate of a microbatch of `images` differs by more than
/// 0.02 from the wanted one, unless config allows it. Returns them as a table for people, equal blocks in one
/// row.
std::string check_drop_rates(Backbone& backbone, std::int64_t images);

/// all | even | odd | first:N | last:N | 0,2,5 -> by block, true where kept; ConfigError naming the text
/// otherwise.
std::vector<bool> parse_keep(const std::string& keep, std::int64_t num_blocks);

/// All parameters, then all buffers, by timm's names, as the live tensors.
std::map<std::string, at::Tensor> state_of(Backbone& backbone);

}  // namespace cosub::model
