// How a microbatch in a file was computed: the metadata of the safetensors file, which `cosub model step`
// goes by where no option says otherwise.
#pragma once

#include <map>
#include <string>

#include "common/config/pipeline.h"

namespace cosub::train {

struct RecordedStep {
  std::string model;          // config.json in timm's format; empty: not said
  config::CosubConfig cosub;  // enabled, share_stem, loss, lambda (of that step), bce_reduction, targets
  config::Precision precision = config::Precision::kFp32;
  std::int64_t later_updates = 0;  // of the weights in the file beside it, after those that the step met
};

/// By key: model, cosub, share_stem, loss, lambda, bce_reduction, targets, precision, later_updates.
std::map<std::string, std::string> to_metadata(const RecordedStep& step);
/// What is missing keeps its default. DataError naming file (`where`), key and what is allowed.
RecordedStep from_metadata(const std::map<std::string, std::string>& metadata, const std::string& where);

}  // namespace cosub::train
