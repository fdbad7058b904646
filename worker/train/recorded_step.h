// How a microbatch in a file was computed: the metadata of the safetensors file, which `cosub model step`
// goes by where no option says otherwise.
#pragma once

#include <map>
#include <string>

#include "common/config/pipeline.h"

namespace cosub::train {

inline const std::map<std::string, config::LossKind> kLossNames = {{"bce", config::LossKind::kBce},
                                                                   {"ce", config::LossKind::kCe}};
inline const std::map<std::string, config::BceReduction> kBceReductionNames = {
    {"mean", config::BceReduction::kMean}, {"sum", config::BceReduction::kSum}};
inline const std::map<std::string, config::Targets> kTargetsNames = {
    {"soft", config::Targets::kSoft}, {"binarize", config::Targets::kBinarize}};
inline const std::map<std::string, config::Precision> kPrecisionNames = {{"fp32", config::Precision::kFp32},
                                                                         {"tf32", config::Precision::kTf32},
                                                                         {"bf16", config::Precision::kBf16}};

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
