#include "worker/tools/bench_commands.h"

#include <map>
#include <memory>
#include <string>

#include "common/config/names.h"
#include "worker/tools/arch_option.h"
#include "worker/tools/bench_allreduce.h"
#include "worker/tools/bench_optimizer.h"
#include "worker/tools/bench_step.h"
#include "worker/tools/choice.h"
#include "worker/tools/number_check.h"

namespace cosub::tools {
namespace {

using Chosen = std::function<ExitCode()>;

void add_place(CLI::App& app, std::int64_t& threads, std::string& device) {
  app.add_option("--threads", threads, "of LibTorch, a rank")
      ->check(whole_at_least(1))
      ->capture_default_str();
  app.add_option("--device", device,
                 "auto, cpu or cuda; auto: GPUs where every host has one; at most one rank a GPU")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
}

void add_stage(CLI::App& sub, BenchStepOptions& options) {
  config::StageConfig& stage = options.stage;
  sub.add_option("--model", stage.model.name, "by timm's name; `cosub model list` shows them")
      ->capture_default_str();
  add_arch(sub, options.arch);
  sub.add_option("--image-size", stage.model.image_size, "pixels")
      ->check(whole_at_least(1))
      ->capture_default_str();
  sub.add_option("--classes", stage.model.classes)->check(whole_at_least(1))->capture_default_str();
  sub.add_option("--images", stage.batch.micro, "of a microbatch; cosub makes two rows of each")
      ->check(whole_at_least(1))
      ->capture_default_str();
  sub.add_option("--accumulate", options.accumulate, "microbatches of a rank in a step")
      ->check(whole_at_least(1))
      ->capture_default_str();
  sub.add_option("--drop-rate", stage.model.drop_rate, "the same in every block")
      ->check(number_in(config::share_below_one()))
      ->capture_default_str();
  add_choice(sub, "--precision", stage.precision, config::kPrecisionNames, "fp32, tf32 or bf16 (fp32)");
  add_choice(sub, "--loss", stage.cosub.loss, config::kLossNames, "bce or ce (bce)");
  sub.add_option("--optimizer", stage.optimizer.name, "adamw, lamb or sgd")
      ->check(CLI::IsMember({"adamw", "lamb", "sgd"}))
      ->capture_default_str();
  sub.add_flag("--cosub,!--baseline", stage.cosub.enabled, "two views of each image (default), or one");
  sub.add_option("--ema", stage.ema, "decay of the moving average; 0: none")
      ->check(number_in(config::share_below_one()))
      ->capture_default_str();
  sub.add_flag("--cuda-graph,!--no-cuda-graph", stage.cuda_graph,
               "a GPU gets a step as one graph (default), or kernel by kernel");
  add_choice(sub, "--attention", stage.attention, config::kAttentionNames,
             "of a GPU: auto (the fastest), flash, cudnn or efficient (auto)");
  sub.add_flag("--activation-checkpointing", stage.model.activation_checkpointing,
               "branches are computed again in the backward pass");
}

void add_exchange(CLI::App& sub, config::StageConfig& stage) {
  config::ExchangeConfig& exchange = stage.exchange;
  sub.add_flag("--overlap,!--no-overlap", exchange.overlap,
               "gradients travel during the backward pass (default), or after it");
  sub.add_option("--bucket-mib", exchange.bucket_mib, "of gradients that travel together")
      ->check(number_in(config::above(0)))
      ->capture_default_str();
  add_choice(sub, "--compress", exchange.compress, config::kCompressNames,
             "none or bf16, which needs --reduction fast (none)");
  sub.add_flag("--error-feedback", exchange.error_feedback,
               "what rounding to bf16 loses counts in the next step");
  sub.add_option("--sync-batchnorm", stage.sync_batchnorm,
                 "statistics of BatchNorm over the microbatches of so many neighbouring ranks")
      ->check(whole_at_least(1))
      ->capture_default_str();
  add_choice(sub, "--reduction", stage.reduction, config::kReductionNames,
             "ordered (the same bits on any number of ranks) or fast (ordered)");
}

void add_files(CLI::App& sub, BenchStepOptions& options) {
  sub.add_option("--weights", options.weights, "safetensors file to start from; default: drawn from --seed")
      ->check(CLI::ExistingFile);
  sub.add_option("--save-weights", options.save_weights, "write the weights at the start; must not exist");
  sub.add_option("--save-inputs", options.save_inputs, "write images and targets; must not exist");
  sub.add_option("--kept-rows", options.kept_rows,
                 "write the rows that are kept, as JSON: [step][microbatch][branch] -> rows, null where all");
  sub.add_option("--json", options.json, "write everything that was measured");
  sub.add_option("--trace", options.trace,
                 "three more steps under LibTorch's profiler: write their trace, print the longest "
                 "operators, of a GPU also how much of the communication is exposed");
}

void add_step(CLI::App& bench, Chosen& chosen) {
  auto options = std::make_shared<BenchStepOptions>();
  config::StageConfig& stage = options->stage;
  stage.name = "bench";
  stage.model.name = "deit3_small_patch16_224";
  stage.model.classes = 1000;
  stage.model.drop_rate_rule = config::DropRateRule::kUniform;
  stage.model.allow_rounded_drop_rate = true;  // the table says which rate it was
  stage.batch.micro = 8;
  stage.optimizer.lr = 1e-4;
  stage.ema = 0.9999;
  CLI::App* sub = bench.add_subcommand("step", "Training steps of a model: speed, where time and memory go");
  add_stage(*sub, *options);
  add_exchange(*sub, stage);
  add_place(*sub, stage.threads, stage.device);
  sub->add_option("--steps", options->steps, "that are measured")
      ->check(whole_at_least(1))
      ->capture_default_str();
  sub->add_option("--warm-up", options->warm_up, "steps before these")
      ->check(whole_at_least(0))
      ->capture_default_str();
  sub->add_option("--seed", options->seed, "of weights, images and kept rows")->capture_default_str();
  add_files(*sub, *options);
  add_choice<Turns>(*sub, "--in-turns", options->in_turns,
                    {{"overlap", Turns::kOverlap}, {"ranks", Turns::kRanks}},
                    "overlap: each step with it and without; ranks: on all, on rank 0 alone, and on each for "
                    "itself; a table of each, and how they compare");
  sub->add_flag("--on-request", options->on_request,
                "run a step for each line on stdin and answer with its seconds and loss, no table");
  sub->footer(
      "Random images, so that no loader is in it; the step itself is that of training.\n"
      "What the efficient form of stochastic depth saves:\n"
      "  cosub bench step --threads 8 --drop-rate 0.0\n"
      "  cosub bench step --threads 8 --drop-rate 0.5\n"
      "Exposed communication, four ranks:\n"
      "  mpirun -n 4 --bind-to none cosub-worker bench step --images 64 --precision bf16\n"
      "What a second rank brings, and what it would bring if nothing were exchanged:\n"
      "  mpirun -n 2 --bind-to none cosub-worker bench step --threads 1 --in-turns ranks\n"
      "Where a step's time goes (the file opens in https://ui.perfetto.dev):\n"
      "  cosub bench step --threads 8 --trace step.json\n"
      "Beside timm and PyTorch: bench/step/run. With and without overlap, over a limited link:\n"
      "bench/overlap/run.");
  sub->callback([options, &chosen] {
    chosen = [options] {
      set_arch(options->stage.model, options->arch);
      return run_bench_step(*options);
    };
  });
}

void add_allreduce(CLI::App& bench, Chosen& chosen) {
  auto options = std::make_shared<BenchAllreduceOptions>();
  CLI::App* sub = bench.add_subcommand("allreduce", "The exchange of gradients between ranks, by size");
  sub->add_option("--from", options->from_bytes, "the smallest size, as in 64KB")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("1KB");
  sub->add_option("--to", options->to_bytes, "no size above this one; each is four times the one before")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("256MB");
  add_place(*sub, options->threads, options->device);
  sub->add_option("--json", options->json, "write everything that was measured");
  sub->footer(
      "fast is reduction: fast (buckets of 25 MiB), ordered is reduction: ordered (the same bits on any "
      "number of ranks).\n"
      "Algorithm bandwidth is size over time; bus bandwidth, times 2 (n-1) / n, can be set against a "
      "link's.\n"
      "Example: mpirun -n 4 --bind-to none cosub-worker bench allreduce --to 64MB");
  sub->callback([options, &chosen] { chosen = [options] { return run_bench_allreduce(*options); }; });
}

void add_optimizer(CLI::App& bench, Chosen& chosen) {
  auto options = std::make_shared<BenchOptimizerOptions>();
  CLI::App* sub = bench.add_subcommand("optimizer", "The update of the parameters and of their average");
  sub->add_option("--optimizer", options->optimizers, "one or several, by name")->capture_default_str();
  sub->add_option("--parameters", options->parameters, "how many, as in 86000000")
      ->check(whole_at_least(1))
      ->capture_default_str();
  sub->add_option("--steps", options->steps)->check(whole_at_least(1))->capture_default_str();
  sub->add_option("--ema", options->ema, "decay of the moving average; 0: none")
      ->check(number_in(config::share_below_one()))
      ->capture_default_str();
  add_place(*sub, options->threads, options->device);
  sub->add_option("--json", options->json, "write everything that was measured");
  sub->footer("Example: cosub bench optimizer --parameters 86000000 --threads 8");
  sub->callback([options, &chosen] { chosen = [options] { return run_bench_optimizer(*options); }; });
}

}  // namespace

void add_bench_commands(CLI::App& app, Chosen& chosen) {
  CLI::App* bench =
      app.add_subcommand("bench", "How fast training steps, the exchange of gradients and updates are");
  add_step(*bench, chosen);
  add_allreduce(*bench, chosen);
  add_optimizer(*bench, chosen);
  bench->require_subcommand(1);
}

}  // namespace cosub::tools
