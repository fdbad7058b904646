// Pipelines for the tests of the configuration: a small valid one, and helpers to break it.
#pragma once

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "common/config/pipeline.h"
#include "common/error.h"

namespace cosub::config {

inline const std::string kValid = R"(name: small
seed: 7
cluster: {ranks: 2}
defaults:
  data:
    train: {idx: {images: train-images.gz, labels: train-labels.gz}}
    val: {idx: {images: val-images.gz, labels: val-labels.gz}}
    mean: [0.286]
    std: [0.353]
  batch: {global: 128, micro: 32}
  ema: 0.99
stages:
  - name: pretrain
    model:
      name: resnet18
      classes: 10
      channels: 1
      image_size: 28
    optimizer:
      lr: 3e-3
    schedule:
      epochs: 3
      warmup_epochs: 0.5
  - name: finetune
    init: {stage: pretrain}
    model: {image_size: 36}
  - name: evaluate
    task: evaluate
    init: {stage: finetune}
    submodels:
      - {name: even, keep: even}
      - {name: some, keep: [0, 2, 5]}
  - name: export
    task: export
    after: [evaluate]
    init: {stage: finetune, weights: model}
)";

inline PipelineConfig parse(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  return parse_pipeline(yaml, "p.yaml", "/data", overrides);
}

/// The message of the ConfigError that this gives.
inline std::string refusal(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  try {
    parse(yaml, overrides);
  } catch (const ConfigError& error) {
    return error.what();
  }
  ADD_FAILURE() << "accepted:\n" << yaml;
  return "";
}

/// kValid with `from` replaced by `to`.
inline std::string with(const std::string& from, const std::string& to) {
  std::string yaml = kValid;
  const std::size_t at = yaml.find(from);
  if (at == std::string::npos) throw std::logic_error("the valid pipeline has no " + from);
  return yaml.replace(at, from.size(), to);
}

}  // namespace cosub::config
