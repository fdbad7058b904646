#include "worker/tools/data_commands.h"

#include <map>
#include <memory>
#include <string>
#include <thread>

#include "worker/tools/choice.h"
#include "worker/tools/data_bench.h"
#include "worker/tools/data_index.h"
#include "worker/tools/data_order.h"
#include "worker/tools/data_pack.h"
#include "worker/tools/data_stats.h"
#include "worker/tools/data_verify.h"
#include "worker/tools/data_verify_pairs.h"
#include "worker/tools/number_check.h"
#include "worker/tools/source_arguments.h"

namespace cosub::tools {
namespace {

using Chosen = std::function<ExitCode()>;

std::int64_t all_cores() {
  return std::max<std::int64_t>(1, std::thread::hardware_concurrency());
}

void add_index(CLI::App& data, Chosen& chosen) {
  auto options = std::make_shared<DataIndexOptions>();
  options->index.threads = all_cores();
  CLI::App* sub =
      data.add_subcommand("index", "Write where every sample of tar shards lies, beside the shards");
  sub->add_option("shards", options->shards, "shards, '/data/{000000..002047}.tar', or their folder")
      ->required();
  sub->add_option("--class-map", options->index.class_map,
                  "class names by number, for labels that are names");
  sub->add_option("--label-field", options->index.label_field, "of KEY.json, where there is no KEY.cls")
      ->capture_default_str();
  sub->add_option("--threads", options->index.threads, "shards read at a time")
      ->check(whole_at_least(1))
      ->capture_default_str();
  sub->add_flag("--again", options->index.again, "read shards that have not changed as well");
  sub->footer(
      "Writes shards.index into each folder of shards, 16 bytes a sample; shards that have not changed since "
      "are\n"
      "not read again, unless the class map or the label field is another. Exit code 78: some are faulty, "
      "all of\n"
      "which are named, and the index stays what it was. Example: cosub data index "
      "'/data/in21k/{000000..002047}.tar'");
  sub->callback([options, &chosen] { chosen = [options] { return run_data_index(*options); }; });
}

void add_order(CLI::App& data, Chosen& chosen) {
  auto options = std::make_shared<DataOrderOptions>();
  CLI::App* sub = data.add_subcommand("order", "Which sample goes to which step, microbatch and rank");
  sub->add_option("pipeline", options->pipeline, "pipeline file")->required();
  sub->add_option("--set", options->overrides, "KEY=VALUE, as for cosub run");
  sub->add_option("--stage", options->stage, "default: the first that trains");
  sub->add_option("--step", options->first_step, "the first step")->check(whole_at_least(0));
  sub->add_option("--steps", options->num_steps, "how many")->check(whole_at_least(1))->capture_default_str();
  sub->add_option("--ranks", options->ranks, "default: cluster.ranks")->check(whole_at_least(1));
  sub->footer("Example: cosub data order configs/quickstart.yaml --step 7 --ranks 2");
  sub->callback([options, &chosen] { chosen = [options] { return run_data_order(*options); }; });
}

void add_verify(CLI::App& data, Chosen& chosen) {
  auto options = std::make_shared<DataVerifyOptions>();
  options->threads = all_cores();
  CLI::App* sub = data.add_subcommand("verify", "Decode every sample and name the bad ones");
  add_source(*sub, options->source);
  sub->add_option("--classes", options->classes, "labels must be below; default: any")
      ->check(whole_at_least(1));
  sub->add_option("--channels", options->channels, "1 or 3")
      ->check(CLI::IsMember({1, 3}))
      ->capture_default_str();
  sub->add_option("--threads", options->threads)->check(whole_at_least(1))->capture_default_str();
  auto masks = std::make_shared<MaskOptions>();
  add_mask_options(*sub, *masks);
  sub->footer(
      "Prints one line per bad sample. Exit code 0: all are good, 78: some are bad.\n"
      "Images with masks, for segmentation: cosub data verify --folder ade/images/training \\\n"
      "  --masks ade/annotations/training --classes 150 --zero-is-ignored");
  sub->callback([options, masks, &chosen] {
    chosen = [options, masks] {
      return masks->masks.empty() ? run_data_verify(*options) : run_data_verify_pairs(*options, *masks);
    };
  });
}

void add_bench(CLI::App& data, Chosen& chosen) {
  using Delivery = data::TrainLoader::Delivery;
  auto options = std::make_shared<DataBenchOptions>();
  config::DataConfig& settings = options->data;
  settings.augment.crop = config::Crop::kRandomResized;
  settings.augment.flip = 0.5;
  CLI::App* sub = data.add_subcommand("bench", "How many images a second the loader prepares");
  add_source(*sub, options->source);
  sub->add_option("--channels", options->channels, "1 or 3")
      ->check(CLI::IsMember({1, 3}))
      ->capture_default_str();
  sub->add_option("--image-size", options->image_size, "the model's, in pixels")
      ->check(whole_at_least(1))
      ->capture_default_str();
  sub->add_option("--batch", options->batch, "images in a microbatch")
      ->check(whole_at_least(1))
      ->capture_default_str();
  sub->add_option("--threads", settings.loader_threads, "that load and transform")
      ->check(whole_at_least(1))
      ->capture_default_str();
  sub->add_option("--seconds", options->seconds, "how long")
      ->check(number_in(config::above(0)))
      ->capture_default_str();
  add_choice<Delivery>(
      *sub, "--output", options->delivery, {{"float", Delivery::kInputs}, {"uint8", Delivery::kPixels}},
      "float: normalised inputs, as a CPU gets them; uint8: pixels, as they go to a GPU (float)");
  add_choice<config::Crop>(*sub, "--crop", settings.augment.crop,
                           {{"random_resized", config::Crop::kRandomResized},
                            {"simple", config::Crop::kSimple},
                            {"none", config::Crop::kNone}},
                           "random_resized, simple or none (random_resized)");
  add_choice<config::Interpolation>(
      *sub, "--interpolation", settings.interpolation,
      {{"bicubic", config::Interpolation::kBicubic}, {"bilinear", config::Interpolation::kBilinear}},
      "bicubic or bilinear (bicubic)");
  sub->add_option("--flip", settings.augment.flip, "probability of a mirrored image")
      ->check(number_in(config::share()))
      ->capture_default_str();
  sub->add_flag("--three-augment", settings.augment.three_augment,
                "grey, solarised or blurred, as DeiT III does");
  sub->add_option("--color-jitter", settings.augment.color_jitter,
                  "0.3: brightness, contrast and saturation times 0.7 to 1.3")
      ->check(number_in(config::at_least(0)));
  sub->add_option("--rand-augment", settings.augment.rand_augment, "such as rand-m9-mstd0.5-inc1");
  sub->add_option("--erasing", settings.augment.erasing, "probability of an erased rectangle")
      ->check(number_in(config::share()));
  sub->add_option("--shrink", settings.shrink_px,
                  "shorter side that images are shrunk to before the crop, pixels; 0: not")
      ->check(whole_at_least(0));
  sub->add_option("--cache-gib", settings.cache_gib, "GiB of memory for what was read; 0: none")
      ->check(number_in(config::at_least(0)));
  sub->add_flag("--json", options->json, "one JSON object instead of text");
  sub->footer(
      "Example: cosub data bench --shards '/data/in1k/{0000..0127}.tar' --three-augment --color-jitter 0.3\n"
      "CPU seconds are those of all threads: images per CPU second times the cores of a rank is what it "
      "gets.");
  sub->callback([options, &chosen] { chosen = [options] { return run_data_bench(*options); }; });
}

}  // namespace

void add_data_commands(CLI::App& app, Chosen& chosen) {
  CLI::App* data = app.add_subcommand("data", "Pack, index, check, count, list and time samples");
  add_data_pack(*data, chosen);
  add_index(*data, chosen);
  add_verify(*data, chosen);
  add_data_stats(*data, chosen);
  add_order(*data, chosen);
  add_bench(*data, chosen);
  data->require_subcommand(1);
}

}  // namespace cosub::tools
