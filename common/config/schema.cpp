#include "common/config/schema.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "common/config/names.h"

namespace cosub::config {
namespace {

using std::chrono::milliseconds;
constexpr auto kNameRule =
    "letters, digits, '_', '.' and '-', at most 100 of them, the first a letter, digit or '_'";

bool all_of_name(const std::string& name, const std::string& others) {
  return std::all_of(name.begin(), name.end(), [&](unsigned char c) {
    return c < 0x80 && (std::isalnum(c) || others.find(static_cast<char>(c)) != std::string::npos);
  });
}

/// Submodels are keys of the results, where a dot separates levels.
bool is_result_key(const std::string& name) {
  return is_path_safe(name) && name.find('.') == std::string::npos;
}

bool is_host(const std::string& host) {
  const std::size_t colon = host.find(':');
  if (!is_path_safe(host.substr(0, colon))) return false;
  return colon == std::string::npos || read_int(host.substr(colon + 1)).value_or(0) >= 1;
}

/// Steps are counted in 64 bits, whatever an epoch has.
Range<double> epochs_in_reach() {
  return {"a number > 0 and <= 1000000", [](double x) { return x > 0 && x <= 1e6; }};
}

Range<std::int64_t> threads_in_reach() {
  return {"a whole number from 1 to 1024", [](std::int64_t x) { return x >= 1 && x <= 1024; }};
}

const Fields<InitConfig>& init_fields() {
  static const auto fields =
      Fields<InitConfig>()
          .add_custom(
              "stage", "the name of a classify stage", "start from the weights of this stage",
              [](const Tree& tree, InitConfig& init, Problems& problems) {
                text("the name of a classify stage").read(tree, init.stage, problems);
              },
              [](const InitConfig& init, Keys) {
                return init.stage.empty() ? std::nullopt : std::optional(Tree::text(init.stage));
              })
          .add_custom(
              "weights", "ema or model; without init.stage a safetensors file",
              "which of the stage's two sets of weights (without this key: ema where the stage keeps one), "
              "or the "
              "file to start from; neither stage nor file: random weights",
              [](const Tree& tree, InitConfig& init, Problems& problems) {
                const std::vector<std::string> sets = {"ema", "model"};
                if (!init.stage.empty()) {
                  words(sets).read(tree, init.weights, problems);
                } else if (std::find(sets.begin(), sets.end(), tree.scalar) != sets.end()) {
                  problems.refuse(tree, "a safetensors file, or the key init.stage beside it");
                } else {
                  data_path("a safetensors file").read(tree, init.weights_file, problems);
                }
              },
              [](const InitConfig& init, Keys) -> std::optional<Tree> {
                if (!init.stage.empty()) return Tree::word(init.weights);
                if (init.weights_file.empty()) return std::nullopt;
                return Tree::text(init.weights_file.string());
              })
          .add("head", &InitConfig::head, words({"keep", "replace"}),
               "keep the classifier of those weights, or start a new one (another number of classes)")
          .add("head_scale", &InitConfig::head_scale, number(above(0)),
               "head: replace: the new classifier's initial weights are multiplied by this (timm's and "
               "ConvNeXt's "
               "head_init_scale)");
  return fields;
}

const Fields<CosubConfig>& cosub_fields() {
  static const auto fields =
      Fields<CosubConfig>()
          .add("enabled", &CosubConfig::enabled, flag(), "false: one view and the plain loss, for baselines")
          .add("lambda", &CosubConfig::lambda, number(share()),
               "weight of the other submodel's prediction against the label")
          .add("lambda_start", &CosubConfig::lambda_start, number(share()), "lambda before its warm-up")
          .add("lambda_warmup_epochs", &CosubConfig::lambda_warmup_epochs, number(at_least(0)),
               "lambda rises linearly, step by step, from lambda_start to lambda; 0: it is constant")
          .add("loss", &CosubConfig::loss, enumeration(kLossNames),
               "binary cross-entropy with sigmoid (the published code), or soft-target cross-entropy with "
               "softmax")
          .add("bce_reduction", &CosubConfig::bce_reduction, enumeration(kBceReductionNames),
               "of the binary cross-entropy over classes")
          .add("targets", &CosubConfig::targets, enumeration(kTargetsNames),
               "under mixing: as mixed, or 1 for every class that takes part (DeiT's recipe)")
          .add("share_stem", &CosubConfig::share_stem, flag(),
               "compute what comes before the first droppable branch once for both views");
  return fields;
}

const Fields<OptimizerConfig>& optimizer_fields() {
  static const auto fields =
      Fields<OptimizerConfig>()
          .add("name", &OptimizerConfig::name, words({"adamw", "lamb", "sgd"}, {"adam", "lars", "muon"}),
               "the update rule: AdamW; LAMB as timm's (DeiT III); SGD with momentum")
          .add("lr", &OptimizerConfig::lr, number(above(0)), "peak learning rate")
          .add("weight_decay", &OptimizerConfig::weight_decay, number(at_least(0)),
               "not on biases and 1-D weights; adamw: decoupled; lamb: within the adapted update; sgd: added "
               "to the gradient")
          .add("beta1", &OptimizerConfig::beta1, number(share_below_one()),
               "adamw, lamb: decay of the first moment")
          .only_with({"adamw", "lamb"})
          .add("beta2", &OptimizerConfig::beta2, number(share_below_one()),
               "adamw, lamb: decay of the second moment")
          .only_with({"adamw", "lamb"})
          .add("eps", &OptimizerConfig::eps, number(at_least(0)),
               "adamw, lamb: added to the root of the second moment; 0: 1e-8 (adamw, as torch's) or 1e-6 "
               "(lamb, as timm's)")
          .only_with({"adamw", "lamb"})
          .add("clip_norm", &OptimizerConfig::clip_norm, number(at_least(0)),
               "largest global L2 norm of the gradients; 0: no clipping")
          .add("momentum", &OptimizerConfig::momentum, number(share_below_one()), "sgd: of the gradients")
          .only_with({"sgd"})
          .add("nesterov", &OptimizerConfig::nesterov, flag(), "sgd: with Nesterov's momentum")
          .only_with({"sgd"})
          .add("max_grad_norm", &OptimizerConfig::max_grad_norm, number(at_least(0)),
               "lamb: gradients are divided by max(1, global norm / this), as timm's; 0: not")
          .only_with({"lamb"})
          .add("layer_decay", &OptimizerConfig::layer_decay, number(share_above_zero()),
               "each layer's learning rate over that of the layer above it, as timm's; 1: all alike");
  return fields;
}

const Fields<ScheduleConfig>& schedule_fields() {
  static const auto fields =
      Fields<ScheduleConfig>()
          .add("name", &ScheduleConfig::name, words({"cosine", "linear", "step", "constant"}),
               "course of the learning rate after warm-up")
          .add("epochs", &ScheduleConfig::epochs, number(epochs_in_reach()),
               "length of the stage; may be fractional")
          .add("warmup_epochs", &ScheduleConfig::warmup_epochs, number(at_least(0)),
               "linear warm-up; less than epochs")
          .add("warmup_lr", &ScheduleConfig::warmup_lr, number(at_least(0)),
               "learning rate where warm-up starts")
          .add("min_lr", &ScheduleConfig::min_lr, number(at_least(0)),
               "learning rate where cosine and linear end")
          .only_with({"cosine", "linear"})
          .add("decay_epochs", &ScheduleConfig::decay_epochs, number(above(0)),
               "step: the learning rate falls after every so many epochs")
          .only_with({"step"})
          .add("decay_rate", &ScheduleConfig::decay_rate, number(share_above_zero()),
               "step: what it is multiplied by then")
          .only_with({"step"});
  return fields;
}

const Fields<BatchConfig>& batch_fields() {
  static const auto fields = Fields<BatchConfig>()
                                 .add("global", &BatchConfig::global, whole(whole_at_least(1)),
                                      "images per optimizer step, over all ranks; a multiple of batch.micro")
                                 .add("micro", &BatchConfig::micro, whole(whole_at_least(1)),
                                      "images that go through the model together");
  return fields;
}

const Fields<CheckpointConfig>& checkpoint_fields() {
  static const auto fields = Fields<CheckpointConfig>()
                                 .add("every", &CheckpointConfig::every, duration(milliseconds(1)),
                                      "time between checkpoints", Effect::kNone)
                                 .add("every_steps", &CheckpointConfig::every_steps, whole(whole_at_least(0)),
                                      "additionally every N steps; 0: off", Effect::kNone)
                                 .add("keep", &CheckpointConfig::keep, whole(whole_at_least(1)),
                                      "how many of the newest stay", Effect::kNone)
                                 .add("timeout", &CheckpointConfig::timeout, duration(milliseconds(1)),
                                      "longest wait of the ranks for one to be written; not less than "
                                      "collective_timeout",
                                      Effect::kNone);
  return fields;
}

const Fields<ExchangeConfig>& exchange_fields() {
  static const auto fields =
      Fields<ExchangeConfig>()
          .add("overlap", &ExchangeConfig::overlap, flag(),
               "send gradients while the backward pass computes the next ones", Effect::kNone)
          .add("bucket_mib", &ExchangeConfig::bucket_mib, number(above(0)),
               "MiB of gradients that travel together")
          .add("compress", &ExchangeConfig::compress, enumeration(kCompressNames),
               "bf16: half the bytes between the ranks, each sum in float32; needs reduction: fast")
          .add("error_feedback", &ExchangeConfig::error_feedback, flag(),
               "compress: what rounding took away is added to the rank's next gradients; a checkpoint holds "
               "it, 4 bytes "
               "for each parameter and rank");
  return fields;
}

const Fields<SubmodelConfig>& submodel_fields() {
  Kind<std::string> keep =
      matching("all, even, odd, first:N, last:N or branch indices such as 0,2,5", is_well_formed_keep);
  // In [brackets] the commas of 0,2,5 would separate items, so a list of indices is understood as well.
  keep.read = [scalar = keep.read](const Tree& tree, std::string& value, Problems& problems) {
    Tree joined = tree;
    for (const Tree& item : tree.items) joined.scalar += (joined.scalar.empty() ? "" : ",") + item.scalar;
    if (!tree.items.empty()) joined.kind = Tree::Kind::kScalar;
    scalar(joined, value, problems);
  };
  static const auto fields =
      Fields<SubmodelConfig>()
          .add("name", &SubmodelConfig::name, matching("letters, digits, '_' and '-'", is_result_key),
               "its key in the results")
          .required()
          .add("keep", &SubmodelConfig::keep, keep, "which blocks take part, counted from 0")
          .required()
          .add("branch_scale", &SubmodelConfig::branch_scale,
               enumeration<BranchScale>({{"1", BranchScale::kOne}, {"train", BranchScale::kTrain}}),
               "what the kept branches are multiplied by: 1, or 1 / (1 - drop rate) as in training; the "
               "results "
               "hold both");
  return fields;
}

const Fields<ClusterConfig>& cluster_fields() {
  static const auto fields =
      Fields<ClusterConfig>()
          .add("backend", &ClusterConfig::backend, words({"mpirun"}, {"slurm"}), "what starts the ranks")
          .add("ranks", &ClusterConfig::ranks, whole(whole_at_least(1)),
               "MPI processes per stage; at most batch.global / batch.micro of every classify stage")
          .add("hosts", &ClusterConfig::hosts, list_of(matching("a host's name, or name:slots", is_host)),
               "where they run; empty: this machine")
          .add("max_restarts", &ClusterConfig::max_restarts, whole(whole_at_least(0)),
               "deaths from outside (signals, lost hosts) that are survived between two checkpoints")
          .add("grace", &ClusterConfig::grace, duration(milliseconds(0)),
               "from the request to stop until the ranks are killed")
          .add("backoff", &ClusterConfig::backoff, duration(milliseconds(0)),
               "pause before the second attempt; doubles with each further one")
          .add("backoff_max", &ClusterConfig::backoff_max, duration(milliseconds(0)), "its upper limit")
          .add("start_timeout", &ClusterConfig::start_timeout, duration(milliseconds(1)),
               "until the first report of an attempt")
          .add("report_timeout", &ClusterConfig::report_timeout, duration(milliseconds(1)),
               "silence of rank 0 that ends an attempt");
  return fields;
}

}  // namespace

const Fields<StageConfig>& stage_fields() {
  static const auto fields =
      Fields<StageConfig>()
          .add("name", &StageConfig::name, matching(kNameRule, is_path_safe), "unique; its folder's name")
          .required()
          .add("task", &StageConfig::task,
               enumeration<TaskKind>({{"classify", TaskKind::kClassify},
                                      {"evaluate", TaskKind::kEvaluate},
                                      {"export", TaskKind::kExport}}),
               "train a classifier; measure one and its submodels; write one for timm")
          .add("after", &StageConfig::after, list_of(text("the name of a stage")),
               "stages that must be complete first, besides init.stage", Effect::kNone)
          .add("init", &StageConfig::init, structure(init_fields()), "where the weights come from")
          .add("model", &StageConfig::model, structure(model_fields()),
               "keys not given here are those of init.stage")
          .add("data", &StageConfig::data, structure(data_fields()),
               "evaluate and export take val, mean, std, interpolation and crop_ratio from init.stage where "
               "not given here")
          .add("cosub", &StageConfig::cosub, structure(cosub_fields()), "co-training of submodels")
          .add("optimizer", &StageConfig::optimizer, structure(optimizer_fields()), "the weights' updates")
          .add("schedule", &StageConfig::schedule, structure(schedule_fields()), "length and learning rate")
          .add("batch", &StageConfig::batch, structure(batch_fields()), "images per step and per pass")
          .add("ema", &StageConfig::ema, number(share_below_one()),
               "decay of the weights' moving average; 0: none is kept")
          .add("ema_warmup", &StageConfig::ema_warmup, flag(),
               "decay of step t is min(ema, (1 + t) / (10 + t))")
          .add("checkpoint", &StageConfig::checkpoint, structure(checkpoint_fields()),
               "when to save, how much to keep", Effect::kNone)
          .add("reduction", &StageConfig::reduction, enumeration(kReductionNames),
               "sums in one fixed order, the same bits on any number of ranks; or the quickest way")
          .add("exchange", &StageConfig::exchange, structure(exchange_fields()),
               "how gradients travel between the ranks")
          .add("sync_batchnorm", &StageConfig::sync_batchnorm, whole(whole_at_least(1)),
               "this many neighbouring microbatches are normalised together by BatchNorm, each on a rank of "
               "its own; "
               "1: each by itself")
          .add("threads", &StageConfig::threads, whole(threads_in_reach()),
               "CPU threads per rank; other counts give other bits")
          .add("precision", &StageConfig::precision, enumeration(kPrecisionNames),
               "of matrix products and convolutions; weights, sums, losses and updates are float32")
          .add("non_finite", &StageConfig::non_finite,
               enumeration<NonFinite>({{"stop", NonFinite::kStop}, {"skip", NonFinite::kSkip}}),
               "a step whose loss or gradients are not finite ends the stage, or is left out and counted (20 "
               "in a row end it all the same); the microbatch at fault is written for `cosub model step`",
               Effect::kNone)
          .add("check_parameters_every_steps", &StageConfig::check_parameters_every_steps,
               whole(whole_at_least(0)), "compare the weights of all ranks, by hash; 0: only at both ends",
               Effect::kNone)
          .add("device", &StageConfig::device, words({"auto", "cpu", "cuda"}),
               "auto: GPUs where every host has one, else CPUs; at most one rank a GPU")
          .add("cuda_graph", &StageConfig::cuda_graph, flag(),
               "a GPU gets a whole step as one CUDA graph, where its shapes are fixed", Effect::kNone)
          .add("attention", &StageConfig::attention, enumeration(kAttentionNames),
               "the kernel that computes attention on a GPU, where it can; auto: the fastest, timed once for "
               "each shape; roundings differ a little",
               Effect::kNone)
          .add("log_every_steps", &StageConfig::log_every_steps, whole(whole_at_least(1)),
               "steps between two log lines", Effect::kNone)
          .add("collective_timeout", &StageConfig::collective_timeout, duration(milliseconds(1)),
               "longest wait for the other ranks in one operation", Effect::kNone)
          .add("submodels", &StageConfig::submodels, list_of(structure(submodel_fields())),
               "evaluate: measured besides the full model");
  return fields;
}

const Fields<PipelineConfig>& pipeline_fields() {
  static const auto fields =
      Fields<PipelineConfig>()
          // A name gives no numbers: streams are keyed by the seed and the stage's name.
          .add("name", &PipelineConfig::name, matching(kNameRule, is_path_safe),
               "the run's name, and its folder's", Effect::kNone)
          .required()
          .add("seed", &PipelineConfig::seed, seed_number(), "of all random draws")
          .add("runs", &PipelineConfig::runs, path_as_given("a folder"),
               "folder of all runs; a relative one starts where cosub was called", Effect::kNone)
          .add("cluster", &PipelineConfig::cluster, structure(cluster_fields()), "what the stages run on",
               Effect::kNone)
          .add_note("recipe", "the name of a file configs/recipes/NAME.yaml",
                    "a stage's keys, used in every stage where neither it nor `defaults` gives them; looked "
                    "for beside "
                    "the pipeline file and in the folders above it")
          .add_note("defaults", "a mapping with a stage's keys",
                    "used in every stage that does not give them itself")
          .add("stages", &PipelineConfig::stages, list_of(structure(stage_fields())),
               "run in the order that init.stage and after ask for")
          .required();
  return fields;
}

const Fields<StageFile>& stage_file_fields() {
  static const auto fields = Fields<StageFile>()
                                 .add("pipeline", &StageFile::pipeline, matching(kNameRule, is_path_safe),
                                      "the run's name", Effect::kNone)
                                 .required()
                                 .add("seed", &StageFile::seed, seed_number(), "of all random draws")
                                 .add("stage_folder", &StageFile::stage_folder, data_path("a folder"),
                                      "where this stage keeps its files", Effect::kNone)
                                 .required()
                                 .add_custom(
                                     "init_folder", "a folder", "folder of init.stage",
                                     [](const Tree& tree, StageFile& file, Problems& problems) {
                                       data_path("a folder").read(tree, file.init_folder, problems);
                                     },
                                     [](const StageFile& file, Keys) {
                                       return file.init_folder.empty()
                                                  ? std::nullopt
                                                  : std::optional(Tree::text(file.init_folder.string()));
                                     },
                                     Effect::kNone)
                                 .add("stage", &StageFile::stage, structure(stage_fields()), "the stage")
                                 .required();
  return fields;
}

bool is_path_safe(const std::string& name) {
  if (name.empty() || name.size() > 100 || name[0] == '.' || name[0] == '-') return false;
  return all_of_name(name, "_.-");
}

bool is_well_formed_keep(const std::string& keep) {
  if (keep == "all" || keep == "even" || keep == "odd") return true;
  for (const std::string prefix : {"first:", "last:"}) {
    if (keep.rfind(prefix, 0) == 0) return read_int(keep.substr(prefix.size())).value_or(0) >= 1;
  }
  std::int64_t last = -1;
  for (std::size_t begin = 0; begin <= keep.size();) {
    const std::size_t end = std::min(keep.find(',', begin), keep.size());
    const std::int64_t index = read_int(keep.substr(begin, end - begin)).value_or(-1);
    if (index <= last) return false;  // ascending, so that each subset has one name
    last = index;
    begin = end + 1;
  }
  return true;
}

}  // namespace cosub::config
