// How the model tools name a model on the command line, and what they share.
#pragma once

#include <ATen/ATen.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "worker/model/model.h"

namespace cosub::tools {

struct ModelArguments {
  std::string name;               // or from `config`
  std::vector<std::string> arch;  // key=value, lists as 2,2,1,1
  std::filesystem::path config;   // config.json in timm's format
  std::filesystem::path weights;  // safetensors
  std::string recorded;           // config.json's text, for where neither `name` nor `config` is given
  bool float64 = false;

  /// Adds NAME, --arch, --config, --weights and --float64.
  void declare(CLI::App& app);

  /// Builds the model for `input` [B, C, S, S] and loads the weights. Channels and image size are the
  /// input's, classes those of the weights' classifier. ConfigError or DataError.
  std::shared_ptr<model::Backbone> build(const at::Tensor& input) const;
};

/// The named tensor of a file's content; DataError naming file and tensor when it is missing or not floating
/// point.
at::Tensor float_tensor(const std::map<std::string, at::Tensor>& tensors, const std::string& name,
                        std::int64_t dims, const std::filesystem::path& path);

/// CLI11's parse, then `body`; returns its exit code. Errors go to stderr as one message.
int run_tool(CLI::App& app, int argc, char** argv, const std::function<void()>& body);

}  // namespace cosub::tools
