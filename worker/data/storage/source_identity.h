// What tells one set of samples from another, without reading the images.
#pragma once

#include <string>

#include "worker/data/source.h"

namespace cosub::data {

/// 16 hex digits: of a folder's names below it and labels, so that the folder may move; of tar shards' names,
/// sizes and labels; of IDX files' content. Blocks while it reads what of that is not in memory.
std::string identity_of(const config::SourceConfig& config, const Source& source);

}  // namespace cosub::data
