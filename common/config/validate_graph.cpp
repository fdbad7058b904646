#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "common/config/validate.h"
#include "common/text.h"

namespace cosub::config {
namespace {

/// Files of the run's own folder, beside the stages' folders.
constexpr std::array kTakenNames = {"pipeline.yaml", "results.json", "report.html"};

class Graph {
 public:
  Graph(const PipelineConfig& pipeline, const Tree& trees, Problems& problems)
      : stages_(pipeline.stages), trees_(trees), problems_(problems), marks_(stages_.size(), Mark::kNew) {}

  void check() {
    check_names();
    for (std::size_t i = 0; i < stages_.size(); ++i) check_edges(i);
    for (std::size_t i = 0; i < stages_.size(); ++i) visit(i);
    if (has_cycle_) return;
    for (std::size_t i = 0; i < stages_.size(); ++i) check_init(i);
  }

 private:
  enum class Mark { kNew, kOpen, kDone };

  void check_names() {
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      const std::string& name = stages_[i].name;
      if (name.empty()) continue;
      names_.push_back(name);
      if (!index_.emplace(name, i).second) {
        refuse(i, "name", quoted(name) + " a second time", "a name that no other stage has");
      }
      if (std::find(kTakenNames.begin(), kTakenNames.end(), name) != kTakenNames.end()) {
        refuse(i, "name", quoted(name) + ", a file of the run's folder", "another name");
      }
    }
  }

  void check_edges(std::size_t i) {
    const StageConfig& stage = stages_[i];
    if (!stage.init.stage.empty()) check_edge(*locate(trees_.items[i], "init.stage").node, stage.init.stage);
    const Tree* const after = trees_.items[i].find("after");
    for (std::size_t k = 0; k < stage.after.size() && after != nullptr; ++k) {
      check_edge(k < after->items.size() ? after->items[k] : *after, stage.after[k]);
    }
  }

  void check_edge(const Tree& node, const std::string& name) {
    if (name.empty() || index_.count(name) > 0 || problems_.concerns(node.path)) return;
    problems_.add(node.place, node.path,
                  fmt::format("found {}; allowed: the name of a stage ({}).{}", quoted(name),
                              fmt::join(names_, ", "), did_you_mean(name, names_)));
  }

  /// Depth first; a stage met while it is still open closes a cycle, which is then the end of `trail_`.
  void visit(std::size_t i) {
    if (marks_[i] == Mark::kDone) return;
    if (marks_[i] == Mark::kOpen) {
      report_cycle(i);
      return;
    }
    marks_[i] = Mark::kOpen;
    trail_.push_back(i);
    const StageConfig& stage = stages_[i];
    for (const std::string& name : stage.after) follow(name);
    follow(stage.init.stage);
    trail_.pop_back();
    marks_[i] = Mark::kDone;
  }

  void follow(const std::string& name) {
    if (const auto next = index_.find(name); next != index_.end()) visit(next->second);
  }

  void report_cycle(std::size_t first) {
    has_cycle_ = true;
    std::string cycle;
    for (auto it = std::find(trail_.begin(), trail_.end(), first); it != trail_.end(); ++it) {
      cycle += stages_[*it].name + " -> ";
    }
    const bool by_init = stages_[trail_.back()].init.stage == stages_[first].name;
    refuse(trail_.back(), by_init ? "init.stage" : "after",
           fmt::format("a cycle, each stage waiting for the next: {}{}", cycle, stages_[first].name),
           "stages that do not wait for themselves");
  }

  void check_init(std::size_t i) {
    const StageConfig& stage = stages_[i];
    const auto found = index_.find(stage.init.stage);
    if (found == index_.end()) return;
    const StageConfig& base = stages_[found->second];
    if (base.task != TaskKind::kClassify) {
      refuse(i, "init.stage", fmt::format("'{}', which trains no weights", base.name), "a classify stage");
      return;
    }
    if (stage.init.weights == "ema" && base.ema == 0) {
      refuse(i, "init.weights", fmt::format("'ema', but stage '{}' keeps none (ema: 0)", base.name),
             "model, or an ema above 0 in that stage");
    }
    if (stage.init.head == "keep" && stage.model.classes != base.model.classes) {
      refuse(i, "model.classes",
             fmt::format("{}, but stage '{}' has {}", stage.model.classes, base.name, base.model.classes),
             "the same number, or init.head: replace in a classify stage");
    }
  }

  void refuse(std::size_t i, const std::string& key, const std::string& found, const std::string& allowed) {
    if (problems_.concerns(locate(trees_.items[i], key).path)) return;
    refuse_key(trees_.items[i], key, found, allowed, problems_);
  }

  const std::vector<StageConfig>& stages_;
  const Tree& trees_;
  Problems& problems_;
  std::vector<Mark> marks_;
  std::vector<std::size_t> trail_;
  std::map<std::string, std::size_t> index_;
  std::vector<std::string> names_;
  bool has_cycle_ = false;
};

}  // namespace

void validate_graph(const PipelineConfig& pipeline, const Tree& stages, Problems& problems) {
  Graph(pipeline, stages, problems).check();
}

}  // namespace cosub::config
