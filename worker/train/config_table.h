// The resolved configuration of a stage as a table for people, printed at its start.
#pragma once

#include <string>

#include "common/config/pipeline.h"

namespace cosub::train {

std::string config_table(const config::StageFile& file);

}  // namespace cosub::train
