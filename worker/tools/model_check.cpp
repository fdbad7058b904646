#include "worker/tools/model_check.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <set>

#include "common/config/file.h"
#include "common/config/overrides.h"
#include "common/config/resolve.h"
#include "common/error.h"
#include "common/text.h"
#include "worker/model/model.h"
#include "worker/model/weights.h"
#include "worker/tools/model_arguments.h"
#include "worker/tools/weightless.h"

namespace cosub::tools {
namespace {

/// What a model's weights may take: this machine's memory, or where others train, which may have more of it,
/// 1 TiB.
std::int64_t memory_limit(const config::ClusterConfig& cluster) {
  constexpr std::int64_t kElsewhere = std::int64_t{1} << 40;
  const std::int64_t here = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  const bool trains_here = cluster.backend == "mpirun" && cluster.hosts.empty();
  return trains_here ? here : std::max(here, kElsewhere);
}

std::shared_ptr<model::Backbone> create(const config::ModelConfig& config, std::int64_t limit_bytes) {
  const Weightless weightless(limit_bytes);
  return model::create(config, std::nullopt);
}

/// "model.arch.depth: what" -> both; a text that names no key is about `otherwise`.
struct Complaint {
  std::string key, what;
};
Complaint complaint_of(const std::string& text, const std::string& otherwise) {
  std::string line;
  for (const char letter : text) {
    if (letter != '\n')
      line += letter;
    else if (!line.ends_with(' '))
      line += ' ';
  }
  for (std::size_t gap; (gap = line.find("  ")) != std::string::npos;) line.erase(gap, 1);
  const std::size_t colon = line.find(": ");
  if (!line.starts_with("model.") || colon == std::string::npos) return {otherwise, line};
  return {line.substr(0, colon), line.substr(colon + 2)};
}

std::string first_line(const char* text) {
  const std::string_view whole(text);
  return std::string(whole.substr(0, whole.find('\n')));
}

/// nullopt: it can be built, and `backbone` is it.
std::optional<Complaint> try_to_build(const config::ModelConfig& config, std::int64_t limit_bytes,
                                      std::shared_ptr<model::Backbone>& backbone) {
  try {
    backbone = create(config, limit_bytes);
    return std::nullopt;
  } catch (const Error& problem) {
    return complaint_of(problem.what(), "model");
  } catch (const std::exception& problem) {  // LibTorch's own: a size that overflows, say
    return Complaint{"model", fmt::format("cannot be built: {}", first_line(problem.what()))};
  }
}

/// The complaint about a whole model, put to the key that it comes from where that is easily told.
Complaint with_cause(Complaint complaint, config::ModelConfig config, std::int64_t limit_bytes) {
  std::shared_ptr<model::Backbone> backbone;
  if (complaint.key != "model") return complaint;
  const std::int64_t classes = config.classes;
  config.classes = 1;
  if (!try_to_build(config, limit_bytes, backbone)) {
    return {"model.classes", fmt::format("found {}, whose classifier needs more than {} of memory", classes,
                                         format_bytes(static_cast<double>(limit_bytes)))};
  }
  return complaint;
}

/// All that keeps a model from being built: an arch key that was complained about is left out the next time.
/// A key that the model does not know changes nothing then: `backbone` is the one that was meant, or nullptr.
std::vector<Complaint> complaints_of(config::ModelConfig config, std::int64_t limit_bytes,
                                     std::shared_ptr<model::Backbone>& backbone) {
  constexpr std::string_view kArch = "model.arch.";
  std::vector<Complaint> complaints;
  bool is_as_meant = true;
  while (std::optional<Complaint> complaint = try_to_build(config, limit_bytes, backbone)) {
    const bool is_of_arch_key = complaint->key.starts_with(kArch);
    // What may only come of a key having been left out is no problem of the file.
    if (!is_as_meant && !is_of_arch_key) return complaints;
    is_as_meant = is_as_meant && complaint->what.starts_with("not a key of ");
    complaints.push_back(with_cause(*std::move(complaint), config, limit_bytes));
    if (!is_of_arch_key || config.arch.erase(complaints.back().key.substr(kArch.size())) == 0)
      return complaints;
  }
  if (!is_as_meant) backbone = nullptr;
  return complaints;
}

class Check {
 public:
  Check(const config::PipelineConfig& pipeline, const config::Tree& stages, config::Problems& problems)
      : pipeline_(pipeline),
        stages_(stages),
        problems_(problems),
        limit_bytes_(memory_limit(pipeline.cluster)) {}

  void check_all() {
    for (std::size_t i = 0; i < pipeline_.stages.size(); ++i) {
      const config::StageConfig& stage = pipeline_.stages[i];
      if (stage.model.name.empty()) continue;  // that of init.weights
      const std::shared_ptr<model::Backbone> backbone = build(i);
      if (backbone == nullptr) continue;
      if (stage.task == config::TaskKind::kClassify) {
        check_drop_rates(i, *backbone);
        check_initial_weights(i);
      }
      if (stage.task == config::TaskKind::kEvaluate) check_submodels(i, *backbone);
    }
  }

 private:
  /// nullptr where it cannot be, which is then on record.
  std::shared_ptr<model::Backbone> build(std::size_t i) {
    const config::StageConfig& stage = pipeline_.stages[i];
    const config::StageConfig* const base = init_stage_of(stage);
    std::shared_ptr<model::Backbone> backbone;
    const std::vector<Complaint> complaints = complaints_of(stage.model, limit_bytes_, backbone);
    if (base != nullptr && base->model == stage.model) return backbone;  // told about there
    for (const Complaint& complaint : complaints) add(stages_.items[i], complaint);
    return backbone;
  }

  const config::StageConfig* init_stage_of(const config::StageConfig& stage) const {
    const auto found = std::ranges::find(pipeline_.stages, stage.init.stage, &config::StageConfig::name);
    return found == pipeline_.stages.end() ? nullptr : &*found;
  }

  void check_drop_rates(std::size_t i, model::Backbone& backbone) {
    try {
      model::check_drop_rates(backbone, pipeline_.stages[i].batch.micro);
    } catch (const ConfigError& problem) {
      add(stages_.items[i], complaint_of(problem.what(), "model.drop_rate"));
    }
  }

  void check_submodels(std::size_t i, const model::Backbone& backbone) {
    const config::Tree* const list = stages_.items[i].find("submodels");
    for (std::size_t k = 0; k < pipeline_.stages[i].submodels.size(); ++k) {
      try {
        model::parse_keep(pipeline_.stages[i].submodels[k].keep, backbone.seam().num_blocks());
      } catch (const ConfigError& problem) {
        std::string what = problem.what();
        if (what.starts_with("keep: ")) what.erase(0, 6);
        const bool has_place = list != nullptr && k < list->items.size();
        add(has_place ? list->items[k] : stages_.items[i], {"keep", what});
      }
    }
  }

  /// Whether the weights that init.stage will have trained are those of this model.
  void check_initial_weights(std::size_t i) {
    const config::StageConfig& stage = pipeline_.stages[i];
    const config::StageConfig* const base = init_stage_of(stage);
    std::shared_ptr<model::Backbone> from, to;
    if (base == nullptr || try_to_build(base->model, limit_bytes_, from) ||
        try_to_build(stage.model, limit_bytes_, to))
      return;
    const auto head = stage.init.head == "replace" ? model::HeadPolicy::kReplace : model::HeadPolicy::kKeep;
    try {
      const Weightless weightless(limit_bytes_);
      model::load_state(*to, model::state_of(*from), head, "the model of stage " + base->name);
    } catch (const Error& problem) {
      add(stages_.items[i], {"init.stage", complaint_of(problem.what(), "").what});
    } catch (const std::exception&) {
      // What is resampled by its numbers, which are not there, is not judged.
    }
  }

  void add(const config::Tree& tree, const Complaint& complaint) {
    const config::Located located = config::locate(tree, complaint.key);
    problems_.add(located.node->place, located.path, complaint.what);
  }

  const config::PipelineConfig& pipeline_;
  const config::Tree& stages_;
  config::Problems& problems_;
  std::int64_t limit_bytes_;
};

}  // namespace

std::string model_problems(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  const config::PipelineConfig pipeline = config::load_pipeline(file, overrides);
  // Once more as a tree, which has the places.
  config::Problems problems;
  config::Tree document = config::read_yaml_file(file, problems);
  config::apply_overrides(document, overrides, problems);
  config::complete_stages(document, problems);
  problems.throw_if_any();
  const config::Tree* const stages = document.find("stages");
  if (stages == nullptr || stages->items.size() != pipeline.stages.size()) return "";  // changed meanwhile
  Check(pipeline, *stages, problems).check_all();
  return problems.text();
}

}  // namespace cosub::tools

namespace cosub {

int run_model_check(int argc, char** argv) {
  std::filesystem::path file;
  std::vector<std::string> overrides;
  CLI::App app(
      "Whether the models of all stages of a pipeline can be built: their names and model.arch, image sizes, "
      "drop rates with batch.micro, the blocks of submodels, whether init.stage's weights fit, and whether "
      "they fit this machine's memory. Nothing is computed. `cosub run` (with --dry-run, too) and `cosub "
      "submit` "
      "do it first. Exit code 78 when something is wrong.",
      "cosub-worker model check");
  app.add_option("PIPELINE", file, "pipeline file (YAML)")->required();
  app.add_option("--set", overrides, "override one key, as in cosub run; may be repeated")
      ->type_name("KEY=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  ExitCode code = ExitCode::kDone;
  const int ran = tools::run_tool(app, argc, argv, [&] {
    spdlog::set_level(spdlog::level::off);  // what is said of weights that are loaded
    const std::string problems = tools::model_problems(file, overrides);
    if (problems.empty()) return;
    fmt::print("{}\n", problems);
    code = ExitCode::kBadInput;
  });
  return ran == 0 ? static_cast<int>(code) : ran;
}

}  // namespace cosub
