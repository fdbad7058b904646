// Completes the stages of a pipeline's document: what a stage does not say itself comes from its init stage,
// from `defaults`, and from the recipe, in this order. Places stay with the values, so that a wrong value in
// `defaults` is reported where it stands.
#pragma once

#include "common/config/problems.h"
#include "common/config/tree.h"

namespace cosub::config {

/// Takes `defaults` and `recipe` out of the document and merges them into its stages. A stage with init.stage
/// takes the keys of `model` from that stage; evaluate and export also take data.val, data.mean and data.std.
/// Chains of init.stage that are wrong are left alone here (validate.h names them).
void complete_stages(Tree& document, Problems& problems);

}  // namespace cosub::config
