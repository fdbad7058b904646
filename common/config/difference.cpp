#include "common/config/difference.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/config/schema.h"
#include "common/config/yaml.h"

namespace cosub::config {
namespace {

std::string short_text(const Tree* tree) {
  if (tree == nullptr) return "nothing";
  constexpr std::size_t kLongest = 80;
  std::string text = print_flow(*tree);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

bool is_list_of_maps(const Tree& tree) {
  return tree.kind == Tree::Kind::kList &&
         std::ranges::any_of(tree.items, [](const Tree& item) { return item.kind == Tree::Kind::kMap; });
}

class Comparison {
 public:
  std::vector<Difference> differences;

  /// The tree of one stage, or of the whole pipeline without its stages. nullptr: not there.
  void compare(const std::string& stage, const std::string& key, const Tree* before, const Tree* after) {
    const bool are_both = before != nullptr && after != nullptr;
    if (are_both && before->kind == Tree::Kind::kMap && after->kind == Tree::Kind::kMap) {
      for (const TreeEntry& entry : before->entries)
        compare(stage, join_path(key, entry.key), &entry.value, after->find(entry.key));
      for (const TreeEntry& entry : after->entries)
        if (before->find(entry.key) == nullptr)
          compare(stage, join_path(key, entry.key), nullptr, &entry.value);
    } else if (are_both && is_list_of_maps(*before) && before->items.size() == after->items.size()) {
      for (std::size_t i = 0; i < before->items.size(); ++i)
        compare(stage, fmt::format("{}[{}]", key, i), &before->items[i], &after->items[i]);
    } else if (!are_both || print_flow(*before) != print_flow(*after)) {
      differences.push_back({stage, key, short_text(before), short_text(after)});
    }
  }
};

const StageConfig* find_stage(const PipelineConfig& pipeline, const std::string& name) {
  const auto found = std::ranges::find(pipeline.stages, name, &StageConfig::name);
  return found == pipeline.stages.end() ? nullptr : &*found;
}

Tree deciding_tree(const StageConfig& stage) {
  return stage_fields().write(stage, Keys::kDeciding);
}

Tree without_stages(const PipelineConfig& pipeline) {
  Tree tree = pipeline_fields().write(pipeline, Keys::kDeciding), stages;
  tree.take("stages", stages);
  return tree;
}

}  // namespace

std::vector<Difference> deciding_differences(const PipelineConfig& before, const PipelineConfig& after) {
  Comparison comparison;
  const Tree whole_before = without_stages(before), whole_after = without_stages(after);
  comparison.compare("", "", &whole_before, &whole_after);
  for (const StageConfig& stage : before.stages) {
    const std::string key = "stages." + stage.name;
    const StageConfig* const other = find_stage(after, stage.name);
    if (other == nullptr) {
      comparison.differences.push_back({stage.name, key, "a stage", "nothing"});
      continue;
    }
    const Tree mine = deciding_tree(stage), theirs = deciding_tree(*other);
    comparison.compare(stage.name, key, &mine, &theirs);
  }
  for (const StageConfig& stage : after.stages)
    if (find_stage(before, stage.name) == nullptr)
      comparison.differences.push_back({stage.name, "stages." + stage.name, "nothing", "a stage"});
  return std::move(comparison.differences);
}

}  // namespace cosub::config
