#include "common/config/resolve.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include "common/config/file.h"
#include "common/config/schema.h"
#include "common/config/yaml.h"
#include "common/text.h"

namespace cosub::config {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> recipe_folders(const fs::path& start) {
  std::vector<fs::path> folders;
  for (fs::path folder = start;; folder = folder.parent_path()) {
    folders.push_back(folder / "configs" / "recipes");
    if (folder == folder.parent_path()) return folders;
  }
}

/// Names of the recipes in all folders, sorted.
std::vector<std::string> known_recipes(const std::vector<fs::path>& folders) {
  std::set<std::string> names;
  for (const fs::path& folder : folders) {
    std::error_code missing;  // most of these folders do not exist
    for (const auto& entry : fs::directory_iterator(folder, missing)) {
      if (entry.path().extension() == ".yaml") names.insert(entry.path().stem().string());
    }
  }
  return {names.begin(), names.end()};
}

Tree load_recipe(const Tree& name, Problems& problems) {
  if (name.kind == Tree::Kind::kNothing) return Tree();
  if (name.kind != Tree::Kind::kScalar || !name.place.source) {
    problems.refuse(name, "the name of a recipe");
    return Tree();
  }
  const std::vector<fs::path> folders = recipe_folders(name.place.source->folder);
  for (const fs::path& folder : folders) {
    const fs::path file = folder / (name.scalar + ".yaml");
    std::error_code ignored;  // a folder that cannot be looked into holds no recipe for us
    if (!is_path_safe(name.scalar) || !fs::is_regular_file(file, ignored)) continue;
    Tree recipe = read_yaml_file(file, problems);
    if (recipe.kind == Tree::Kind::kMap || recipe.kind == Tree::Kind::kNothing) return recipe;
    problems.refuse(recipe, "a mapping with a stage's keys");
    return Tree();
  }
  const std::vector<std::string> known = known_recipes(folders);
  const std::string allowed = known.empty() ? "none: there is no configs/recipes beside or above the file"
                                            : fmt::format("{}", fmt::join(known, ", "));
  problems.refuse(name, allowed, did_you_mean(name.scalar, known));
  return Tree();
}

/// What a stage must say itself has no place in defaults or a recipe.
void refuse_own_keys(Tree& defaults, Problems& problems) {
  for (const std::string key : {"name", "task", "after", "init"}) {
    Tree value;
    if (!defaults.take(key, value)) continue;
    problems.add(value.place, value.path, "belongs to each stage; allowed: a stage's other keys.");
  }
}

class Completion {
 public:
  Completion(Tree& stages, const Tree& defaults, const Tree& recipe)
      : stages_(stages),
        defaults_(defaults),
        recipe_(recipe),
        state_(stages.items.size(), State::kUntouched) {}

  void complete_all() {
    for (std::size_t i = 0; i < stages_.items.size(); ++i) complete(i);
  }

 private:
  enum class State { kUntouched, kUnderWay, kDone };

  void complete(std::size_t index) {
    if (state_[index] != State::kUntouched) return;
    state_[index] = State::kUnderWay;
    Tree& stage = stages_.items[index];
    if (stage.kind == Tree::Kind::kMap) {
      inherit(stage);
      merge_under(stage, defaults_);
      merge_under(stage, recipe_);
    }
    state_[index] = State::kDone;
  }

  void inherit(Tree& stage) {
    const Located init = locate(stage, "init.stage");
    if (!init.exists || init.node->kind != Tree::Kind::kScalar) return;
    const std::optional<std::size_t> from = index_of(init.node->scalar);
    if (!from) return;
    complete(*from);
    if (state_[*from] != State::kDone) return;  // a cycle
    const Tree& base = stages_.items[*from];
    Tree inherited = Tree::map();
    if (const Tree* const model = base.find("model")) inherited.set("model", *model);
    const Tree* const task = stage.find("task");
    const Tree* const data = base.find("data");
    if (data != nullptr && task != nullptr && task->scalar != "classify") {
      Tree part = *data;
      part.entries.clear();
      for (const std::string key : {"val", "mean", "std", "interpolation", "crop_ratio"}) {
        if (const Tree* const value = data->find(key)) part.set(key, *value);
      }
      inherited.set("data", std::move(part));
    }
    merge_under(stage, inherited);
  }

  std::optional<std::size_t> index_of(const std::string& name) const {
    for (std::size_t i = 0; i < stages_.items.size(); ++i) {
      const Tree* const own = stages_.items[i].find("name");
      if (own != nullptr && own->scalar == name) return i;
    }
    return std::nullopt;
  }

  Tree& stages_;
  const Tree& defaults_;
  const Tree& recipe_;
  std::vector<State> state_;
};

}  // namespace

void complete_stages(Tree& document, Problems& problems) {
  Tree defaults, recipe_name, recipe;
  if (document.take("recipe", recipe_name)) recipe = load_recipe(recipe_name, problems);
  if (document.take("defaults", defaults) && defaults.kind != Tree::Kind::kMap &&
      defaults.kind != Tree::Kind::kNothing) {
    problems.refuse(defaults, "a mapping with a stage's keys");
    defaults = Tree();
  }
  refuse_own_keys(defaults, problems);
  refuse_own_keys(recipe, problems);
  if (Tree* const stages = document.find("stages")) Completion(*stages, defaults, recipe).complete_all();
}

}  // namespace cosub::config
