// What must hold between keys, after each key by itself has been found right. Checks that involve a key with
// a problem of its own are left out, so that one mistake gives one message.
#pragma once

#include "common/config/pipeline.h"
#include "common/config/problems.h"
#include "common/config/tree.h"

namespace cosub::config {

/// One stage by itself; `tree` is what it was read from and gives the places. `inherits`: false where a wrong
/// init.stage keeps it from having what it would take from there, so that this is not complained about as
/// well.
void validate_stage(const StageConfig& stage, const Tree& tree, bool inherits, Problems& problems);

/// The pipeline: its stages, how they depend on each other (validate_graph.cpp), and whether the cluster fits
/// them.
void validate_pipeline(const PipelineConfig& pipeline, const Tree& tree, Problems& problems);

/// Names are unique; init.stage and after name stages that exist, without a cycle; weights and classes fit.
void validate_graph(const PipelineConfig& pipeline, const Tree& stages, Problems& problems);

/// "found X; allowed: Y.", where the key stands, or what is nearest to it where it was not given.
void refuse_key(const Tree& tree, const std::string& key, const std::string& found,
                const std::string& allowed, Problems& problems);

}  // namespace cosub::config
