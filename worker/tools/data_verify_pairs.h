// `cosub data verify --masks`: decodes every image and its mask, names the pairs that segmentation cannot
// use, and counts the pixels of each class.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>

#include "common/exit_code.h"
#include "worker/tools/data_verify.h"

namespace cosub::tools {

/// What `data verify` takes besides where the samples are masks.
struct MaskOptions {
  std::filesystem::path masks;  // empty: the samples have labels, no masks
  std::int64_t ignore_label = 255;
  bool zero_is_ignored = false;
};

/// Adds them to the command, which has the options of DataVerifyOptions already.
void add_mask_options(CLI::App& verify, MaskOptions& options);

/// One line per bad pair on stdout, in the order of the source: damaged, of different sizes, or with a value
/// that is no class below options.classes. Then a summary, and how many pixels the most frequent and the
/// rarest classes of the good pairs have. kBadInput when a pair is bad. Errors as data::PairSource.
ExitCode run_data_verify_pairs(const DataVerifyOptions& options, const MaskOptions& masks);

}  // namespace cosub::tools
