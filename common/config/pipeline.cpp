#include "common/config/pipeline.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>

#include "common/config/file.h"
#include "common/config/overrides.h"
#include "common/config/resolve.h"
#include "common/config/schema.h"
#include "common/config/validate.h"
#include "common/config/yaml.h"

namespace cosub::config {
namespace {

/// `init: {stage: X}` alone means X's EMA where it keeps one, else its plain weights.
void choose_weights(PipelineConfig& pipeline, const Tree& stages) {
  for (std::size_t i = 0; i < pipeline.stages.size() && i < stages.items.size(); ++i) {
    InitConfig& init = pipeline.stages[i].init;
    if (init.stage.empty() || locate(stages.items[i], "init.weights").exists) continue;
    for (const StageConfig& base : pipeline.stages) {
      if (base.name == init.stage && base.ema == 0) init.weights = "model";
    }
  }
}

PipelineConfig read_pipeline(Tree document, const std::vector<std::string>& overrides, Problems& problems) {
  PipelineConfig pipeline;
  if (problems.empty() || document.kind == Tree::Kind::kMap) {
    apply_overrides(document, overrides, problems);
    complete_stages(document, problems);
    pipeline_fields().read(document, pipeline, problems);
    if (const Tree* const stages = document.find("stages")) choose_weights(pipeline, *stages);
    validate_pipeline(pipeline, document, problems);
  }
  problems.throw_if_any();
  return pipeline;
}

std::string hash_of(const Tree& tree) {
  const std::string text = print_yaml(tree);
  return fmt::format("{:016x}", XXH64(text.data(), text.size(), 0));
}

}  // namespace

PipelineConfig load_pipeline(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  Problems problems;
  Tree document = read_yaml_file(file, problems);
  return read_pipeline(std::move(document), overrides, problems);
}

PipelineConfig parse_pipeline(const std::string& yaml, const std::string& name_for_errors,
                              const std::filesystem::path& base_folder,
                              const std::vector<std::string>& overrides) {
  Problems problems;
  Tree document = read_yaml_text(yaml, name_for_errors, base_folder, problems);
  return read_pipeline(std::move(document), overrides, problems);
}

namespace {

StageFile read_stage_file(Tree document, const std::vector<std::string>& overrides, Problems& problems) {
  StageFile stage;
  if (problems.empty() || document.kind == Tree::Kind::kMap) {
    apply_overrides(document, overrides, problems);
    stage_file_fields().read(document, stage, problems);
    if (const Tree* const tree = document.find("stage")) validate_stage(stage.stage, *tree, true, problems);
    if (!stage.stage.init.stage.empty() && stage.init_folder.empty()) {
      refuse_key(document, "init_folder", "nothing beside stage.init.stage", "that stage's folder", problems);
    }
  }
  problems.throw_if_any();
  return stage;
}

}  // namespace

StageFile load_stage_file(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  Problems problems;
  Tree document = read_yaml_file(file, problems);
  return read_stage_file(std::move(document), overrides, problems);
}

StageFile parse_stage_file(const std::string& yaml, const std::string& name_for_errors,
                           const std::filesystem::path& base_folder) {
  Problems problems;
  Tree document = read_yaml_text(yaml, name_for_errors, base_folder, problems);
  return read_stage_file(std::move(document), {}, problems);
}

std::string to_yaml(const PipelineConfig& pipeline) {
  return print_yaml(pipeline_fields().write(pipeline, Keys::kAll));
}

std::string to_yaml(const StageFile& stage) {
  return print_yaml(stage_file_fields().write(stage, Keys::kAll));
}

std::string identity_hash(const StageConfig& stage, std::uint64_t seed) {
  Tree tree = stage_fields().write(stage, Keys::kDeciding);
  tree.set("seed", Tree::word(std::to_string(seed)));
  return hash_of(tree);
}

std::string identity_hash(const PipelineConfig& pipeline) {
  return hash_of(pipeline_fields().write(pipeline, Keys::kDeciding));
}

}  // namespace cosub::config
