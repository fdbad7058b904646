// What values are called, in YAML, on command lines and in files: where more than the schema has to know.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/config/pipeline.h"

namespace cosub::config {

template <class E>
using Names = std::vector<std::pair<std::string, E>>;  // in the order of telling

inline const Names<LossKind> kLossNames = {{"bce", LossKind::kBce}, {"ce", LossKind::kCe}};
inline const Names<BceReduction> kBceReductionNames = {{"mean", BceReduction::kMean},
                                                       {"sum", BceReduction::kSum}};
inline const Names<Targets> kTargetsNames = {{"soft", Targets::kSoft}, {"binarize", Targets::kBinarize}};
inline const Names<Compress> kCompressNames = {{"none", Compress::kNone}, {"bf16", Compress::kBf16}};
inline const Names<Precision> kPrecisionNames = {
    {"fp32", Precision::kFp32}, {"tf32", Precision::kTf32}, {"bf16", Precision::kBf16}};
inline const Names<AttentionBackend> kAttentionNames = {{"auto", AttentionBackend::kAuto},
                                                        {"flash", AttentionBackend::kFlash},
                                                        {"cudnn", AttentionBackend::kCudnn},
                                                        {"efficient", AttentionBackend::kEfficient}};
inline const Names<Reduction> kReductionNames = {{"ordered", Reduction::kOrdered},
                                                 {"fast", Reduction::kFast}};

/// nullptr: no value is called so.
template <class E>
const E* value_of(const Names<E>& names, std::string_view name) {
  for (const auto& [of_value, value] : names) {
    if (of_value == name) return &value;
  }
  return nullptr;
}

template <class E>
const std::string& name_of(const Names<E>& names, E value) {
  for (const auto& [name, of_name] : names) {
    if (of_name == value) return name;
  }
  throw std::logic_error("a value without a name");
}

}  // namespace cosub::config
