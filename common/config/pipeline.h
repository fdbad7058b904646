// What a pipeline file says, as plain structs with their defaults in place. Loaded and validated once
// (load_pipeline), printed as YAML, stored with the run, and handed to the workers stage by stage
// (StageFile). Read-only afterwards. Units: fields named *_px are pixels, lr and weight_decay are the
// optimizer's own, epochs may be fractional.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace cosub::config {

/// Overrides of a named model's table row, under timm's own keyword names (depth, embed_dim, ...). Which keys
/// there are stands in schema_model.cpp; which of them a family knows is checked by worker/model.
using ArchValue = std::variant<bool, std::int64_t, double, std::string, std::vector<std::int64_t>>;
using ArchConfig = std::map<std::string, ArchValue>;

enum class StochasticDepth { kFixed, kBernoulli };  // fixed | bernoulli
enum class DropRateRule { kUniform, kLinear };      // uniform | linear

struct ModelConfig {
  std::string name;                            // timm's name, e.g. deit3_small_patch16_224, resnet18
  std::int64_t classes = 0;                    // required
  std::int64_t channels = 3;                   // of the input image: 1 or 3
  std::int64_t image_size = 224;               // px, square
  double drop_rate = 0.0;                      // stochastic depth, [0, 1)
  std::optional<DropRateRule> drop_rate_rule;  // unset: the family's own
  StochasticDepth stochastic_depth = StochasticDepth::kFixed;
  bool allow_rounded_drop_rate = false;
  bool activation_checkpointing = false;  // branches are computed again in the backward pass
  ArchConfig arch;
  bool operator==(const ModelConfig&) const = default;
};

struct IdxSource {  // MNIST's format, plain or .gz
  std::filesystem::path images;
  std::filesystem::path labels;
  bool operator==(const IdxSource&) const = default;
};

struct SourceConfig {                 // one of folder, shards and idx
  std::filesystem::path folder = {};  // one sub-folder per class, as torchvision's ImageFolder
  std::filesystem::path list = {};    // of `folder`: file with "path label" lines; empty: its sub-folders
  std::vector<std::filesystem::path> shards = {};  // tar files as WebDataset's; braces are expanded
  std::optional<IdxSource> idx = {};               // the whole set in two files
  std::filesystem::path class_map = {};  // class names in the order of their numbers; empty: sorted names
  std::int64_t limit = 0;                // use only the first N samples; 0: all
  bool given() const { return idx.has_value() || !folder.empty() || !shards.empty(); }
  bool operator==(const SourceConfig&) const = default;
};

enum class Crop { kNone, kRandomResized, kSimple };  // none | random_resized | simple
enum class Interpolation { kBilinear, kBicubic };    // bilinear | bicubic, both with anti-aliasing

enum class ErasingMode { kPixel, kConst };  // pixel: noise | const: zero

struct AugmentConfig {
  Crop crop = Crop::kNone;                         // kNone: the whole image is resized
  std::vector<double> scale = {0.08, 1.0};         // random_resized: share of the area, from and to
  std::vector<double> ratio = {3.0 / 4, 4.0 / 3};  // random_resized: width over height, from and to
  std::int64_t crop_padding_px = 0;  // random crop out of the image padded by this much; 0: no crop
  double flip = 0.0;                 // probability of a horizontal flip
  bool three_augment = false;        // DeiT III's: greyscale, solarisation or blur
  double color_jitter = 0.0;         // brightness, contrast, saturation: factors in 1 -/+ this
  std::string rand_augment = {};     // as timm writes it, rand-m9-mstd0.5-inc1; empty: none
  double erasing = 0.0;              // probability that part of an image is erased
  ErasingMode erasing_mode = ErasingMode::kPixel;
  bool operator==(const AugmentConfig&) const = default;
};

struct MixConfig {           // as timm.data.Mixup computes them
  double mixup = 0.0;        // alpha of Beta; 0: off
  double cutmix = 0.0;       // alpha of Beta; 0: off
  double prob = 1.0;         // that a microbatch is mixed at all
  double switch_prob = 0.5;  // of CutMix instead of Mixup when both are on
  double smoothing = 0.0;    // label smoothing
  bool operator==(const MixConfig&) const = default;
};

enum class Shuffle { kFull, kWindowed };  // full | windowed
enum class Decode { kCpu, kNvjpeg };      // cpu | nvjpeg

struct DataConfig {
  SourceConfig train;
  SourceConfig val;
  Shuffle shuffle = Shuffle::kFull;
  std::int64_t shuffle_block = 1024;  // windowed: neighbouring samples that stay together,
  std::int64_t shuffle_blocks = 32;   // and how many such blocks are mixed with one another
  std::int64_t repeats = 1;           // times a sample is seen in a step (repeated augmentation)
  Decode decode = Decode::kCpu;       // who decodes training images
  Interpolation interpolation = Interpolation::kBicubic;
  double crop_ratio = 1.0;   // evaluation: side of the centre crop over the resized shorter side
  std::vector<double> mean;  // per channel, of [0, 1] pixels; empty: 0.5
  std::vector<double> std;   // empty: 0.5
  AugmentConfig augment;
  std::int64_t shrink_px = 0;  // longest shorter side of an image before it is cropped; 0: any
  double cache_gib = 0;        // memory for decoded images, per rank
  std::chrono::milliseconds read_timeout = std::chrono::minutes(5);  // of one sample
  MixConfig mix;
  double max_bad_share = 0.01;  // above this share of unreadable samples the run stops
  std::int64_t loader_threads = 1;
  bool operator==(const DataConfig&) const = default;
};

enum class LossKind { kBce, kCe };        // bce | ce
enum class BceReduction { kMean, kSum };  // mean | sum (over classes)
enum class Targets { kSoft, kBinarize };  // soft | binarize

struct CosubConfig {
  bool enabled = true;  // false: one view and L(z, y), for baselines
  double lambda = 0.5;
  double lambda_start = 0.0;          // where its warm-up starts
  double lambda_warmup_epochs = 0.0;  // linear; 0: none
  LossKind loss = LossKind::kBce;
  BceReduction bce_reduction = BceReduction::kMean;
  Targets targets = Targets::kSoft;
  bool share_stem = true;
  bool operator==(const CosubConfig&) const = default;
};

struct OptimizerConfig {
  std::string name = "adamw";  // adamw | lamb | sgd
  double lr = 1e-3;
  double weight_decay = 0.05;
  double beta1 = 0.9;          // adamw, lamb
  double beta2 = 0.999;        // adamw, lamb
  double eps = 0.0;            // adamw, lamb; 0: the rule's own (eps_of)
  double clip_norm = 0.0;      // global L2 norm; 0: no clipping
  double momentum = 0.9;       // sgd
  bool nesterov = true;        // sgd
  double max_grad_norm = 1.0;  // lamb: clips inside the rule; 0: does not
  double layer_decay = 1.0;    // of the learning rate, from the classifier down to the stem
  bool operator==(const OptimizerConfig&) const = default;
};

/// optimizer.eps, or where it is left at 0 what the rule is published with: torch's AdamW 1e-8, timm's LAMB
/// 1e-6.
inline double eps_of(const OptimizerConfig& optimizer) {
  if (optimizer.eps > 0) return optimizer.eps;
  return optimizer.name == "lamb" ? 1e-6 : 1e-8;
}

struct ScheduleConfig {
  std::string name = "cosine";  // cosine | linear | step | constant
  double epochs = 1;
  double warmup_epochs = 0;
  double warmup_lr = 0;      // where warm-up starts
  double min_lr = 0;         // where cosine and linear end
  double decay_epochs = 30;  // step: after every so many
  double decay_rate = 0.1;   // step: the learning rate is multiplied by this
  bool operator==(const ScheduleConfig&) const = default;
};

struct BatchConfig {
  std::int64_t global = 256;  // images per optimizer step
  std::int64_t micro = 64;    // images that go through the model together
  bool operator==(const BatchConfig&) const = default;
};

struct CheckpointConfig {
  std::chrono::milliseconds every = std::chrono::minutes(15);  // by rank 0's clock
  std::int64_t every_steps = 0;                                // additionally every N steps; 0: off
  std::int64_t keep = 3;
  std::chrono::milliseconds timeout = std::chrono::minutes(30);  // the ranks' wait for one to be written
  bool operator==(const CheckpointConfig&) const = default;
};

struct InitConfig {
  std::string stage;                   // of this pipeline, or
  std::filesystem::path weights_file;  // a safetensors file; both empty: random (YAML: weights: FILE)
  std::string weights = "ema";         // ema | model: which of a stage's two
  std::string head = "keep";           // keep | replace
  double head_scale = 1;               // replace: of the new classifier's initial weights
  bool operator==(const InitConfig&) const = default;
};

enum class BranchScale { kOne, kTrain };  // 1 | train

struct SubmodelConfig {
  std::string name;  // key in the results
  std::string keep;  // all | even | odd | first:N | last:N | 0,2,5 (block indices)
  BranchScale branch_scale = BranchScale::kOne;  // factor of the kept branches: 1, or as in training
  bool operator==(const SubmodelConfig&) const = default;
};

enum class Compress { kNone, kBf16 };  // none | bf16

struct ExchangeConfig {   // of the gradients between the ranks
  bool overlap = true;    // while the backward pass still runs
  double bucket_mib = 4;  // of gradients that travel together
  Compress compress = Compress::kNone;
  bool error_feedback = false;  // compress: what rounding lost is added to the next step
  bool operator==(const ExchangeConfig&) const = default;
};

enum class Precision { kFp32, kTf32, kBf16 };                       // fp32 | tf32 | bf16
enum class AttentionBackend { kAuto, kFlash, kCudnn, kEfficient };  // auto | flash | cudnn | efficient
enum class NonFinite { kStop, kSkip };                              // stop | skip

enum class TaskKind { kClassify, kEvaluate, kExport };  // classify | evaluate | export
enum class Reduction { kOrdered, kFast };               // ordered | fast

struct StageConfig {
  std::string name;
  TaskKind task = TaskKind::kClassify;
  std::vector<std::string> after;  // besides init.stage
  InitConfig init;
  ModelConfig model;  // evaluate/export: taken from init.stage where not given
  DataConfig data;
  CosubConfig cosub;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  BatchConfig batch;
  double ema = 0.0;        // decay; 0: no EMA
  bool ema_warmup = true;  // decay_t = min(ema, (1 + t) / (10 + t))
  CheckpointConfig checkpoint;
  Reduction reduction = Reduction::kOrdered;
  ExchangeConfig exchange;
  std::int64_t sync_batchnorm = 1;  // ranks that normalise one microbatch each together
  std::int64_t threads = 1;         // per rank; part of the run's identity
  Precision precision = Precision::kFp32;
  NonFinite non_finite = NonFinite::kStop;
  std::int64_t check_parameters_every_steps = 1000;      // that all ranks hold the same; 0: never
  std::string device = "auto";                           // auto | cpu | cuda
  bool cuda_graph = true;                                // a GPU gets a whole step at once, where it can
  AttentionBackend attention = AttentionBackend::kAuto;  // of LibTorch, on a GPU
  std::int64_t log_every_steps = 10;
  std::chrono::milliseconds collective_timeout = std::chrono::minutes(5);
  std::vector<SubmodelConfig> submodels;  // evaluate
  bool operator==(const StageConfig&) const = default;
};

struct ClusterConfig {
  std::string backend = "mpirun";
  std::int64_t ranks = 1;
  std::vector<std::string> hosts;  // name[:slots]; empty: this machine
  std::int64_t max_restarts = 20;  // deaths from outside since the last new checkpoint
  std::chrono::milliseconds grace = std::chrono::seconds(60);   // from the request to stop until TERM, KILL
  std::chrono::milliseconds backoff = std::chrono::seconds(2);  // before the second attempt; doubles
  std::chrono::milliseconds backoff_max = std::chrono::minutes(2);
  std::chrono::milliseconds start_timeout = std::chrono::minutes(5);  // until the first report of an attempt
  std::chrono::milliseconds report_timeout =
      std::chrono::minutes(5);  // silence of rank 0 that ends an attempt
  bool operator==(const ClusterConfig&) const = default;
};

struct PipelineConfig {
  std::string name;
  std::uint64_t seed = 0;
  std::filesystem::path runs = "runs";  // folder of all runs; relative to where cosub was called
  ClusterConfig cluster;
  std::vector<StageConfig> stages;  // in file order; a DAG by init.stage and after
  bool operator==(const PipelineConfig&) const = default;
};

/// A stage as one attempt sees it: what a worker needs and nothing else. `cosub-worker train stage.yaml`
/// reads it.
struct StageFile {
  std::string pipeline;
  std::uint64_t seed = 0;
  std::filesystem::path stage_folder;  // runs/NAME/STAGE, absolute
  std::filesystem::path init_folder;   // runs/NAME/INITSTAGE, absolute; empty without init.stage
  StageConfig stage;
};

/// Parses, applies `defaults`, `recipe` and the `--set a.b.c=value` overrides (in this order), resolves
/// relative data paths against the file's folder, validates everything that does not need the data or
/// LibTorch. All problems found are reported in one ConfigError, each as "file:line:column: key: found X;
/// allowed Y; did you mean Z?".
PipelineConfig load_pipeline(const std::filesystem::path& file,
                             const std::vector<std::string>& overrides = {});
PipelineConfig parse_pipeline(const std::string& yaml, const std::string& name_for_errors,
                              const std::filesystem::path& base_folder,
                              const std::vector<std::string>& overrides = {});
StageFile load_stage_file(const std::filesystem::path& file, const std::vector<std::string>& overrides = {});
StageFile parse_stage_file(const std::string& yaml, const std::string& name_for_errors,
                           const std::filesystem::path& base_folder);

/// YAML that parses back to an equal value, every key written out that means something.
std::string to_yaml(const PipelineConfig& pipeline);
std::string to_yaml(const StageFile& stage);

/// 16 hex digits over what decides the numbers of a run: everything but cluster, runs, logging, time-outs,
/// checkpoint times and loader threads.
std::string identity_hash(const StageConfig& stage, std::uint64_t seed);
std::string identity_hash(const PipelineConfig& pipeline);

/// One override of a named model from the command line (depth=6, layers=2,2,1,1) or several from JSON, such
/// as the model_args of timm's config.json, whose other keys are left out. ConfigError naming key, value and
/// what is allowed.
void set_arch_key(ArchConfig& arch, const std::string& assignment);
ArchConfig arch_from_json(std::string_view json_object);

/// Every key with type, default, allowed values and meaning, as Markdown (docs/configuration.md is made from
/// it).
std::string reference_markdown();

}  // namespace cosub::config
