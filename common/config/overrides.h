// `--set a.b.c=value`: changes one key of a document before anything is read from it.
#pragma once

#include <string>
#include <vector>

#include "common/config/problems.h"
#include "common/config/tree.h"

namespace cosub::config {

/// Applies "key=value" texts in order. Stages are addressed by name (stages.pretrain.optimizer.lr) or by
/// number (stages.0.ema). The value is YAML; a mapping changes the keys it has, everything else replaces what
/// was there. Unknown stages and texts without '=' become problems; unknown keys are found when the document
/// is read.
void apply_overrides(Tree& document, const std::vector<std::string>& overrides, Problems& problems);

}  // namespace cosub::config
