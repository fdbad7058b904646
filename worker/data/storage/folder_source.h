// Images in folders, one per class, as torchvision's ImageFolder reads them.
#pragma once

#include <memory>

#include "worker/data/source.h"

namespace cosub::data {

/// Classes are the sub-folders' names in byte order, or the lines of config.class_map. Samples stand class by
/// class, each in the order of torchvision's make_dataset, with its list of extensions (also those that
/// cannot be decoded here: such a file is a bad sample). With config.list: the lines of that file, each a
/// path relative to the folder, white space, and a number or a name of the class map. Errors as open_source.
std::unique_ptr<Source> open_folder_source(const config::SourceConfig& config, std::int64_t channels,
                                           std::int64_t classes);

}  // namespace cosub::data
