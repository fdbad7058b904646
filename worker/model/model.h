// A vision backbone under timm's names: parameters, buffers, forward. Built by the registry (create); one
// file per architecture family implements it. Owned by whoever trains or evaluates; not thread-safe.
#pragma once

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/config/pipeline.h"
#include "worker/model/batch_norm.h"
#include "worker/model/residual.h"

namespace cosub::model {

class Linear;

/// Which parameters learn at the same rate under layer-wise decay, as timm's group_matcher says: the first
/// pattern that matches the beginning of a parameter's name gives its group (order, then the pattern's
/// captured numbers, then `suffix`); groups are numbered in ascending order. kWithPrevious puts parameters
/// into the group before.
struct LayerPattern {
  std::string regex;
  int order = 0;
  std::optional<int> suffix = std::nullopt;
};
inline constexpr int kWithPrevious = 99999;

/// What timm's config.json says beside the numbers of classes and channels, which are the config's.
struct TimmClass {
  nlohmann::json model_args;
  std::string global_pool;
  std::string first_conv;
  bool fixed_input_size = true;
};

/// The blocks of one stage: PREFIX0, PREFIX1, ... Block i can take the place of block j when both do the
/// same, that is when i and j are equal modulo `period`.
struct BlockStage {
  std::string prefix;  // "layers.0.blocks."
  std::int64_t depth = 0;
  std::int64_t period = 1;
};
struct BlockLayout {
  std::string depth_key;  // the arch key that counts the blocks: depth, depths, layers
  std::vector<BlockStage> stages;
  std::string fixed_because;  // why there is no model without some of the blocks; empty where there is
};

/// Parameters and persistent buffers carry exactly the names that timm's class of the same model gives them,
/// so that named_parameters() and named_buffers() are timm's state_dict.
class Backbone : public torch::nn::Module {
 public:
  using State = std::map<std::string, at::Tensor>;

  /// Draws every parameter from (stream, kInit, its name).
  virtual void init(std::uint64_t stream) = 0;

  /// images: [B, C, H, W] float (normalised) -> logits [views * B, classes] float.
  at::Tensor forward(const at::Tensor& images);
  /// The pooled features before the classifier: [views * B, num_features()].
  virtual at::Tensor forward_features(const at::Tensor& images) = 0;

  /// Names of parameters that get no weight decay beside all 1-D tensors and biases (timm's
  /// no_weight_decay()).
  virtual std::vector<std::string> no_weight_decay() const { return {}; }
  virtual std::vector<LayerPattern> layer_patterns() const = 0;
  /// Weights of another image size, by name: resampled to this model's; all others are left as they are.
  virtual void resample(State&) const {}
  virtual TimmClass timm_class() const = 0;

  /// The classifier's module name: head, fc or head.fc.
  const std::string& classifier() const { return classifier_name_; }
  std::int64_t num_features() const;
  /// timm's config.json: architecture, num_classes, num_features, global_pool, model_args and pretrained_cfg,
  /// to which the exporter adds mean and std. timm.create_model('local-dir:FOLDER', pretrained=True) loads
  /// it.
  nlohmann::json timm_config() const;

  /// Where the blocks stand, for trim(); an empty reason means that blocks can be removed.
  virtual BlockLayout block_layout() const = 0;

  ResidualSeam& seam() { return seam_; }
  const ResidualSeam& seam() const { return seam_; }
  BatchStatistics& batch_statistics() { return batch_statistics_; }
  const config::ModelConfig& config() const { return config_; }

 protected:
  explicit Backbone(config::ModelConfig config) : config_(std::move(config)) {}
  /// Registers the classifier as `name` in this model, or below the group before a dot ("head.fc").
  void add_classifier(const std::string& name, std::int64_t num_features);

  ResidualSeam seam_;
  BatchStatistics batch_statistics_;
  config::ModelConfig config_;
  std::shared_ptr<Linear> classifier_;

 private:
  std::string classifier_name_;
};

/// Builds a model on CPU in float32. Each parameter is drawn from (stream, kInit, its name), so that initial
/// weights depend on nothing else; without a stream they are left for load_state to fill. ConfigError for
/// unknown names (nearest suggested) and for keys the family does not know.
std::shared_ptr<Backbone> create(const config::ModelConfig& config, std::optional<std::uint64_t> stream);

std::vector<std::string> model_names();

/// The model that a config.json in timm's format describes (drop rates at their defaults). ConfigError naming
/// the key when it is not one of ours or lacks something.
config::ModelConfig model_config_from_timm(const nlohmann::json& timm_config);

/// Layer of each parameter for layer-wise learning-rate decay, from 0 (the stem) up to the classifier's.
std::map<std::string, std::int64_t> layer_ids(const Backbone& backbone);

/// Sets each branch's drop rate from config (uniform: d everywhere; linear: d * i / (n-1) over blocks).
/// create() does it.
void set_drop_rates(Backbone& backbone);

/// Sets them and throws ConfigError where the effective rate of a microbatch of `images` differs by more than
/// 0.02 from the wanted one, unless config allows it. Returns them as a table for people, equal blocks in one
/// row.
std::string check_drop_rates(Backbone& backbone, std::int64_t images);

/// By block: what a kept branch is multiplied by in training with microbatches of `images`, 1 / (1 -
/// effective rate).
std::vector<double> training_scales(const Backbone& backbone, std::int64_t images);

/// all | even | odd | first:N | last:N | 0,2,5 -> by block, true where kept; ConfigError naming the text
/// otherwise.
std::vector<bool> parse_keep(const std::string& keep, std::int64_t num_blocks);

/// All parameters, then all buffers, by timm's names, as the live tensors.
std::map<std::string, at::Tensor> state_of(Backbone& backbone);

}  // namespace cosub::model
