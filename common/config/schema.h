// The description of every struct of pipeline.h: its keys, what each may hold, and what it means. The one
// place to add or change a key. Each is made at first use and lives for ever; thread-safe.
#pragma once

#include "common/config/fields.h"
#include "common/config/pipeline.h"

namespace cosub::config {

const Fields<PipelineConfig>& pipeline_fields();
const Fields<StageFile>& stage_file_fields();
const Fields<StageConfig>& stage_fields();

// Parts of a stage, for stage_fields() (schema_model.cpp, schema_data.cpp).
const Fields<ModelConfig>& model_fields();
const Fields<DataConfig>& data_fields();

/// A name that can be a folder's: letters, digits, '_', '.', '-'; not hidden, no option, at most 100
/// characters.
bool is_path_safe(const std::string& name);

/// all | even | odd | first:N | last:N | a list of branch indices such as 0,2,5
bool is_well_formed_keep(const std::string& keep);

}  // namespace cosub::config
