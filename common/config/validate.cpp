#include "common/config/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <set>

#include "common/config/kept_rows.h"
#include "common/config/scalar.h"

namespace cosub::config {
namespace {

/// One stage with what is needed to complain about it.
struct Check {
  const StageConfig& stage;
  const Tree& tree;
  Problems& problems;

  /// No key of these had a problem of its own.
  bool sound(std::initializer_list<const char*> keys) const {
    return std::none_of(keys.begin(), keys.end(),
                        [&](const char* key) { return problems.concerns(locate(tree, key).node->path); });
  }
  void refuse(const std::string& key, const std::string& found, const std::string& allowed) const {
    refuse_key(tree, key, found, allowed, problems);
  }
};

void check_batch(const Check& check) {
  const BatchConfig& batch = check.stage.batch;
  if (!check.sound({"batch.global", "batch.micro"})) return;
  if (batch.global % batch.micro != 0) {
    check.refuse("batch.global", fmt::format("{} with batch.micro {}", batch.global, batch.micro),
                 fmt::format("a multiple of {}", batch.micro));
  }
  const MixConfig& mix = check.stage.data.mix;
  if (check.sound({"data.mix.mixup", "data.mix.cutmix"}) && (mix.mixup > 0 || mix.cutmix > 0) &&
      batch.micro < 2) {
    check.refuse("batch.micro", "1 with data.mix, which mixes the images of a microbatch",
                 "a whole number >= 2, or no mixing");
  }
}

/// What the chosen loss cannot mean.
void check_loss(const Check& check) {
  const CosubConfig& cosub = check.stage.cosub;
  if (cosub.loss != LossKind::kCe || !check.sound({"cosub.loss"})) return;
  if (cosub.targets == Targets::kBinarize && check.sound({"cosub.targets"})) {
    check.refuse("cosub.targets",
                 "binarize with cosub.loss ce, whose targets are a distribution over the classes",
                 "soft, or cosub.loss: bce");
  }
  if (cosub.bce_reduction != BceReduction::kMean && check.sound({"cosub.bce_reduction"}))
    check.refuse("cosub.bce_reduction", "sum with cosub.loss ce", "mean, or cosub.loss: bce");
}

void check_optimizer(const Check& check) {
  const OptimizerConfig& optimizer = check.stage.optimizer;
  if (optimizer.name != "sgd" || check.stage.task != TaskKind::kClassify || !check.sound({"optimizer.name"}))
    return;
  if (optimizer.momentum == 0 && optimizer.nesterov &&
      check.sound({"optimizer.momentum", "optimizer.nesterov"})) {
    check.refuse("optimizer.nesterov",
                 "true with optimizer.momentum 0, whose step there is none to look ahead of",
                 "false, or a momentum above 0");
  }
  if (!locate(check.tree, "optimizer.weight_decay").exists) {
    check.refuse(
        "optimizer.weight_decay",
        "nothing with optimizer.name sgd, which adds the decay to the gradient, so that the default of the "
        "other rules would be far too much",
        "a number >= 0, such as 1e-4");
  }
}

/// lambda reaches its value within the stage, and starts elsewhere only where it rises.
void check_lambda(const Check& check) {
  const CosubConfig& cosub = check.stage.cosub;
  if (cosub.lambda_start != CosubConfig().lambda_start && cosub.lambda_warmup_epochs == 0 &&
      check.sound({"cosub.lambda_start", "cosub.lambda_warmup_epochs"})) {
    check.refuse("cosub.lambda_start",
                 double_text(cosub.lambda_start) + " without cosub.lambda_warmup_epochs",
                 double_text(CosubConfig().lambda_start) + ", or a warm-up of more than 0 epochs");
  }
  if (!check.sound({"cosub.lambda_warmup_epochs", "schedule.epochs"}) ||
      cosub.lambda_warmup_epochs <= check.stage.schedule.epochs) {
    return;
  }
  check.refuse(
      "cosub.lambda_warmup_epochs",
      fmt::format("{} with schedule.epochs {}", cosub.lambda_warmup_epochs, check.stage.schedule.epochs),
      "at most schedule.epochs");
}

void check_exchange(const Check& check) {
  const ExchangeConfig& exchange = check.stage.exchange;
  if (!check.sound({"exchange", "reduction"})) return;
  if (exchange.compress != Compress::kNone && check.stage.reduction == Reduction::kOrdered) {
    check.refuse("exchange.compress",
                 "bf16 with reduction: ordered, whose sums are the same on any number of ranks",
                 "none, or reduction: fast");
  }
  if (exchange.error_feedback && exchange.compress == Compress::kNone) {
    check.refuse("exchange.error_feedback", "true without exchange.compress", "false, or compress: bf16");
  }
}

void check_sync_batchnorm(const Check& check) {
  const StageConfig& stage = check.stage;
  const std::int64_t group_size = stage.sync_batchnorm;
  if (stage.task != TaskKind::kClassify || group_size == 1 || !check.sound({"sync_batchnorm"})) return;
  const bool counted = check.sound({"batch.global", "batch.micro"});
  const std::int64_t num_microbatches = counted ? stage.batch.global / stage.batch.micro : 0;
  if (num_microbatches % group_size != 0) {
    check.refuse("sync_batchnorm",
                 fmt::format("{} with {} microbatches a step (batch.global {} / batch.micro {})", group_size,
                             num_microbatches, stage.batch.global, stage.batch.micro),
                 fmt::format("a divisor of {}, or another batch.global", num_microbatches));
  }
  if (check.sound({"model.stochastic_depth"}) &&
      stage.model.stochastic_depth == StochasticDepth::kBernoulli) {
    check.refuse(
        "model.stochastic_depth",
        fmt::format("bernoulli with sync_batchnorm {}, where a rank without kept rows would leave the "
                    "others waiting",
                    group_size),
        "fixed, or sync_batchnorm: 1");
  }
}

void check_schedule(const Check& check) {
  const ScheduleConfig& schedule = check.stage.schedule;
  if (check.sound({"schedule.epochs", "schedule.warmup_epochs"}) &&
      schedule.warmup_epochs >= schedule.epochs) {
    check.refuse("schedule.warmup_epochs",
                 fmt::format("{} with schedule.epochs {}", double_text(schedule.warmup_epochs),
                             double_text(schedule.epochs)),
                 fmt::format("a number >= 0 and < {}", double_text(schedule.epochs)));
  }
  const double peak = check.stage.optimizer.lr;
  const auto check_below_peak = [&](const std::string& key, double lr) {
    if (lr <= peak || !check.sound({key.c_str(), "optimizer.lr"})) return;
    check.refuse(key, fmt::format("{} with optimizer.lr {}, the peak", double_text(lr), double_text(peak)),
                 "at most " + double_text(peak));
  };
  check_below_peak("schedule.warmup_lr", schedule.warmup_lr);
  check_below_peak("schedule.min_lr", schedule.min_lr);
}

void check_source(const Check& check, const std::string& key, const SourceConfig& source) {
  const auto at = [&](const char* below) { return key + "." + below; };
  const std::string folder = at("folder"), list = at("list"), shards = at("shards"), idx = at("idx"),
                    class_map = at("class_map");
  if (!check.sound(
          {key.c_str(), folder.c_str(), list.c_str(), shards.c_str(), idx.c_str(), class_map.c_str()}))
    return;
  const int sources =
      (source.folder.empty() ? 0 : 1) + (source.shards.empty() ? 0 : 1) + (source.idx ? 1 : 0);
  if (sources == 0) {
    check.refuse(key, "no source of images",
                 "folder: FOLDER, shards: FILE.tar or idx: {images: FILE, labels: FILE}");
  } else if (sources > 1) {
    check.refuse(key, "more than one source of images", "one of folder, shards and idx");
  } else if (!source.list.empty() && source.folder.empty()) {
    check.refuse(list, "a list of files without their folder", "data.*.folder beside it");
  } else if (!source.class_map.empty() && !source.shards.empty()) {
    check.refuse(class_map, "a class map beside shards, whose labels are in their index",
                 "none here; it is given to cosub data index --class-map FILE");
  } else if (!source.class_map.empty() && source.idx) {
    check.refuse(class_map, "a class map beside idx, whose labels are numbers", "none here");
  }
}

void check_normalisation(const Check& check, const std::string& key, const std::vector<double>& values) {
  if (values.empty() || !check.sound({key.c_str(), "model.channels"})) return;
  if (static_cast<std::int64_t>(values.size()) == check.stage.model.channels) return;
  check.refuse(key,
               fmt::format("{} numbers with model.channels {}", values.size(), check.stage.model.channels),
               fmt::format("{} numbers, or none", check.stage.model.channels));
}

void check_interval(const Check& check, const std::string& key, const std::vector<double>& values) {
  if (!check.sound({key.c_str()})) return;
  if (values.size() == 2 && values[0] <= values[1] && values[0] > 0) return;
  check.refuse(key, fmt::format("{} numbers, or not in order", values.size()),
               "two numbers above 0, the smaller one first");
}

void check_augment(const Check& check) {
  const StageConfig& stage = check.stage;
  const AugmentConfig& augment = stage.data.augment;
  check_interval(check, "data.augment.scale", augment.scale);
  check_interval(check, "data.augment.ratio", augment.ratio);
  if (augment.crop != Crop::kNone && augment.crop_padding_px > 0 &&
      check.sound({"data.augment.crop", "data.augment.crop_padding_px"})) {
    check.refuse("data.augment.crop_padding_px", "a second crop beside data.augment.crop",
                 "0, or data.augment.crop: none");
  }
}

/// What the GPU does to the images that it decodes is less than what the loader's threads do.
void check_decode(const Check& check) {
  const DataConfig& data = check.stage.data;
  if (data.decode == Decode::kCpu || !check.sound({"data.decode"})) return;
  const auto refuse = [&](bool refused, const std::string& key, const std::string& found,
                          const std::string& allowed) {
    if (!refused || !check.sound({key.c_str()})) return;
    check.refuse(key, found + " with data.decode nvjpeg", allowed + ", or data.decode: cpu");
  };
  const AugmentConfig& augment = data.augment;
  refuse(augment.crop == Crop::kSimple, "data.augment.crop", "simple", "none or random_resized");
  refuse(augment.crop_padding_px > 0, "data.augment.crop_padding_px",
         fmt::format("{}", augment.crop_padding_px), "0");
  refuse(augment.three_augment, "data.augment.three_augment", "true", "false");
  refuse(augment.color_jitter > 0, "data.augment.color_jitter", double_text(augment.color_jitter), "0");
  refuse(!augment.rand_augment.empty(), "data.augment.rand_augment", quoted(augment.rand_augment), "''");
  refuse(data.shrink_px > 0, "data.shrink_px", fmt::format("{}", data.shrink_px), "0");
  refuse(data.cache_gib > 0, "data.cache_gib", double_text(data.cache_gib), "0");
  refuse(data.train.idx.has_value(), "data.train.idx", "pixels, which need no decoding,",
         "data.train.folder or data.train.shards");
  refuse(check.stage.device == "cpu", "device", "cpu", "auto or cuda");
}

void check_repeats(const Check& check) {
  const StageConfig& stage = check.stage;
  if (!check.sound({"data.repeats", "batch.global", "batch.micro"})) return;
  const std::int64_t microbatches = stage.batch.micro > 0 ? stage.batch.global / stage.batch.micro : 0;
  if (stage.data.repeats <= 1 || stage.data.repeats <= microbatches) return;
  check.refuse("data.repeats",
               fmt::format("{} with {} microbatches a step (batch.global {} / batch.micro {}), where a "
                           "sample would stand twice in a microbatch",
                           stage.data.repeats, microbatches, stage.batch.global, stage.batch.micro),
               fmt::format("at most {}, or a smaller batch.micro", microbatches));
}

void check_data(const Check& check) {
  const StageConfig& stage = check.stage;
  if (stage.task == TaskKind::kClassify) check_source(check, "data.train", stage.data.train);
  if (stage.task != TaskKind::kExport) check_source(check, "data.val", stage.data.val);
  check_normalisation(check, "data.mean", stage.data.mean);
  check_normalisation(check, "data.std", stage.data.std);
  if (stage.task == TaskKind::kClassify) {
    check_augment(check);
    check_decode(check);
    check_repeats(check);
  }
}

void check_model(const Check& check) {
  if (!check.stage.init.stage.empty()) return;  // its stage is told about, or validate_graph names the stage
  if (check.stage.model.name.empty() && check.sound({"model.name"})) {
    check.refuse("model.name", "nothing, and it is required", "a model's name, such as resnet18");
  }
  if (check.stage.model.classes == 0 && check.sound({"model.classes"})) {
    check.refuse("model.classes", "nothing, and it is required", "a whole number >= 1");
  }
}

/// What no depth or rule of the model can mend: the last block drops at model.drop_rate itself.
void check_drop_rate(const Check& check) {
  const StageConfig& stage = check.stage;
  const ModelConfig& model = stage.model;
  if (stage.task != TaskKind::kClassify || model.stochastic_depth != StochasticDepth::kFixed ||
      model.allow_rounded_drop_rate || model.drop_rate == 0 ||
      !check.sound({"model.drop_rate", "model.stochastic_depth", "batch.micro"})) {
    return;
  }
  const std::int64_t kept = kept_count(model.drop_rate, stage.batch.micro);
  const double rounded = rounded_drop_rate(model.drop_rate, stage.batch.micro);
  if (!is_rounded_too_far(model.drop_rate, rounded)) return;
  check.refuse(
      "model.drop_rate",
      fmt::format("{} with batch.micro {}, of which {} rows would be kept, a drop rate of {:.4g}",
                  double_text(model.drop_rate), stage.batch.micro, kept, rounded),
      fmt::format(
          "{:.4g}, a larger batch.micro, stochastic_depth: bernoulli, or allow_rounded_drop_rate: true",
          rounded));
}

void check_init(const Check& check) {
  const InitConfig& init = check.stage.init;
  const bool needs_weights = check.stage.task != TaskKind::kClassify;
  if (needs_weights && init.stage.empty() && init.weights_file.empty() &&
      check.sound({"init.stage", "init.weights", "task"})) {
    check.refuse("init", "neither stage nor weights", "init: {stage: NAME} or init: {weights: FILE}");
  }
  if (needs_weights && init.head == "replace") {
    check.refuse("init.head", "'replace' in a stage that does not train", "keep");
  }
  const bool has_weights = !init.stage.empty() || !init.weights_file.empty();
  if (init.head_scale != 1 && init.head == "replace" && !has_weights && check.sound({"init"})) {
    check.refuse("init.head_scale",
                 double_text(init.head_scale) + " without weights that a classifier is replaced in",
                 "1, or init.stage or init.weights beside it");
  }
  if (init.head_scale != 1 && init.head != "replace" && check.sound({"init.head", "init.head_scale"})) {
    check.refuse("init.head_scale",
                 fmt::format("{} with init.head {}", double_text(init.head_scale), init.head),
                 "1, or init.head: replace");
  }
}

void check_submodels(const Check& check) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < check.stage.submodels.size(); ++i) {
    const std::string& name = check.stage.submodels[i].name;
    if (name.empty() || names.insert(name).second) continue;
    const Tree* const list = check.tree.find("submodels");
    const Tree& tree = list != nullptr && i < list->items.size() ? list->items[i] : check.tree;
    refuse_key(tree, "name", quoted(name) + " a second time", "a name that no other submodel has",
               check.problems);
  }
}

/// Whether init.stage leads, stage by stage, to one that has none.
bool has_whole_chain(const PipelineConfig& pipeline, const StageConfig& stage) {
  const StageConfig* link = &stage;
  for (std::size_t steps = 0; steps <= pipeline.stages.size(); ++steps) {
    if (link->init.stage.empty()) return true;
    const auto next = std::find_if(pipeline.stages.begin(), pipeline.stages.end(),
                                   [&](const StageConfig& other) { return other.name == link->init.stage; });
    if (next == pipeline.stages.end()) return false;
    link = &*next;
  }
  return false;  // a cycle
}

/// Each microbatch that sync_batchnorm joins needs a rank of its own.
void check_whole_groups(const PipelineConfig& pipeline, const Tree& tree, Problems& problems) {
  for (std::size_t i = 0; i < pipeline.stages.size(); ++i) {
    const StageConfig& stage = pipeline.stages[i];
    const Check check{stage, tree.find("stages")->items[i], problems};
    if (stage.task != TaskKind::kClassify || problems.concerns(locate(tree, "cluster.ranks").node->path) ||
        !check.sound({"sync_batchnorm", "batch.global", "batch.micro"}) ||
        pipeline.cluster.ranks % stage.sync_batchnorm == 0) {
      continue;
    }
    refuse_key(tree, "cluster.ranks",
               fmt::format("{} with sync_batchnorm {} in stage '{}'", pipeline.cluster.ranks,
                           stage.sync_batchnorm, stage.name),
               fmt::format("a multiple of {}, up to {}; or another sync_batchnorm", stage.sync_batchnorm,
                           stage.batch.global / stage.batch.micro),
               problems);
  }
}

void check_cluster(const PipelineConfig& pipeline, const Tree& tree, Problems& problems) {
  const ClusterConfig& cluster = pipeline.cluster;
  const StageConfig* smallest = nullptr;
  std::int64_t most = 0;
  for (std::size_t i = 0; i < pipeline.stages.size(); ++i) {
    const StageConfig& stage = pipeline.stages[i];
    const Check check{stage, tree.find("stages")->items[i], problems};
    if (stage.task != TaskKind::kClassify || !check.sound({"batch.global", "batch.micro"})) continue;
    const std::int64_t num_microbatches = std::max<std::int64_t>(1, stage.batch.global / stage.batch.micro);
    if (smallest != nullptr && num_microbatches >= most) continue;
    smallest = &stage;
    most = num_microbatches;
  }
  if (smallest != nullptr && cluster.ranks > most &&
      !problems.concerns(locate(tree, "cluster.ranks").node->path)) {
    refuse_key(
        tree, "cluster.ranks",
        fmt::format("{}, but a step of stage '{}' has {} microbatches (batch.global {} / batch.micro {})",
                    cluster.ranks, smallest->name, most, smallest->batch.global, smallest->batch.micro),
        fmt::format("1 to {}; more ranks would have nothing to do", most), problems);
  }
  check_whole_groups(pipeline, tree, problems);
  if (cluster.backoff_max < cluster.backoff) {
    refuse_key(tree, "cluster.backoff_max", "less than cluster.backoff", "at least cluster.backoff",
               problems);
  }
}

}  // namespace

void refuse_key(const Tree& tree, const std::string& key, const std::string& found,
                const std::string& allowed, Problems& problems) {
  const Located located = locate(tree, key);
  problems.add(located.node->place, located.path, fmt::format("found {}; allowed: {}.", found, allowed));
}

void validate_stage(const StageConfig& stage, const Tree& tree, bool inherits, Problems& problems) {
  const Check check{stage, tree, problems};
  check_batch(check);
  check_exchange(check);
  check_loss(check);
  check_lambda(check);
  check_optimizer(check);
  check_sync_batchnorm(check);
  check_schedule(check);
  if (inherits) check_data(check);
  check_model(check);
  check_drop_rate(check);
  check_init(check);
  check_submodels(check);
}

void validate_pipeline(const PipelineConfig& pipeline, const Tree& tree, Problems& problems) {
  const Tree* const stages = tree.find("stages");
  if (stages == nullptr || stages->items.size() != pipeline.stages.size()) return;  // told already
  if (pipeline.stages.empty())
    refuse_key(tree, "stages", "no stage", "a list of at least one stage", problems);
  for (std::size_t i = 0; i < pipeline.stages.size(); ++i) {
    if (stages->items[i].kind != Tree::Kind::kMap) continue;
    validate_stage(pipeline.stages[i], stages->items[i], has_whole_chain(pipeline, pipeline.stages[i]),
                   problems);
  }
  validate_graph(pipeline, *stages, problems);
  check_cluster(pipeline, tree, problems);
}

}  // namespace cosub::config
