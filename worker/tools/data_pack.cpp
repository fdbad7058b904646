#include "worker/tools/data_pack.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <limits>
#include <memory>
#include <thread>

#include "common/error.h"
#include "common/text.h"
#include "worker/data/pack_image.h"
#include "worker/data/source.h"
#include "worker/data/storage/pack_folder.h"
#include "worker/tools/number_check.h"
#include "worker/tools/progress_line.h"

namespace cosub::tools {
namespace {

constexpr const char* kPackFooter =
    "Writes OUTPUT/000000.tar and so on, each sample as KEY.cls (its class's number) and KEY.jpg, .png, .ppm "
    "or\n"
    ".pgm, their index, and classes.txt. WebDataset's readers read it, too. The same command goes on after "
    "an\n"
    "interruption and gives the same bytes; every image is decoded once, bad ones are left out and named in\n"
    "OUTPUT/bad_samples.txt.\n"
    "\n"
    "Examples:\n"
    "  cosub data pack --folder /data/imagenet/train --output /fast/in1k\n"
    "      the files as they are, shuffled: no loss, and sequential reads mix the classes\n"
    "  cosub data pack --folder /data/imagenet/train --output /fast/in1k-256 --shorter 256 --raw-share 0.25\n"
    "      smaller, quicker to decode; a quarter needs no decoding at all, for several times its bytes\n"
    "Then, in a pipeline: data: {train: {shards: /fast/in1k}}\n"
    "\n"
    "Exit codes: 0 all is packed; 78 too many bad images or other options than before; 1 failed, e.g. a "
    "full\n"
    "disk: the same command goes on.";

void print_bad(const data::PackSummary& summary, const std::filesystem::path& output) {
  const std::size_t named = std::min(kMostNamed, summary.bad.size());
  for (std::size_t i = 0; i < named; ++i) fmt::print("left out: {}\n", summary.bad[i]);
  if (summary.bad.size() > named) {
    fmt::print("left out: {} more, see {}\n", summary.bad.size() - named,
               (output / "bad_samples.txt").string());
  }
}

void print_summary(const data::PackSummary& summary, const std::filesystem::path& output, double seconds) {
  const std::string before =
      summary.shards_before > 0 ? fmt::format(" ({} of them there before)", summary.shards_before) : "";
  fmt::print("{} samples in {} shard{}{}, {}: {} as they are, {} re-encoded, {} as pixels, {} left out; {}\n",
             format_count(summary.samples()), summary.shards, summary.shards == 1 ? "" : "s", before,
             format_bytes(static_cast<double>(summary.bytes)), format_count(summary.as_they_are),
             format_count(summary.reencoded), format_count(summary.pixels), format_count(summary.bad.size()),
             format_duration(seconds));
  fmt::print("in a pipeline: {{shards: {}}}\n", std::filesystem::absolute(output).string());
}

}  // namespace

void add_data_pack(CLI::App& data, std::function<ExitCode()>& chosen) {
  auto options = std::make_shared<DataPackOptions>();
  data::PackOptions& pack = options->pack;
  pack.threads = std::max<std::int64_t>(1, std::thread::hardware_concurrency());
  CLI::App* sub = data.add_subcommand("pack", "Write images as tar shards with their index");
  add_source(*sub, options->source);
  sub->add_option("--output", pack.output, "folder for the shards; new, empty, or one to go on with")
      ->required();
  sub->add_option("--samples-per-shard", pack.samples_per_shard)
      ->check(whole_at_least(1))
      ->capture_default_str();
  sub->add_option("--shorter", pack.shorter_px,
                  "resize images whose shorter side is larger, to so many pixels; default: none")
      ->check(whole_at_least(1));
  sub->add_option("--quality", pack.quality, "of the JPEGs that resized images become (4:2:0)")
      ->check(whole_from_to(1, 100))
      ->capture_default_str();
  sub->add_option("--raw-share", pack.raw_share,
                  "of the images, stored as pixels (PPM or PGM), which need no decoding")
      ->check(number_in(config::share()))
      ->capture_default_str();
  sub->add_option_function<std::string>(
         "--order", [&pack](const std::string& order) { pack.is_shuffled = order == "shuffled"; },
         "shuffled (default) or source")
      ->check(CLI::IsMember({"shuffled", "source"}));
  sub->add_option("--seed", pack.seed, "of the order and of which images are raw")->capture_default_str();
  sub->add_option("--threads", pack.threads)->check(whole_at_least(1))->capture_default_str();
  sub->add_option("--max-bad-share", pack.max_bad_share, "more bad images than this end it")
      ->check(number_in(config::share()))
      ->capture_default_str();
  sub->footer(kPackFooter);
  sub->callback([options, &chosen] { chosen = [options] { return run_data_pack(*options); }; });
}

ExitCode run_data_pack(const DataPackOptions& options) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is an error that names its file, not a death
  const data::PackOptions& pack = options.pack;
  const config::SourceConfig config = options.source.get_named();
  data::PackSummary summary;
  double seconds = 0;
  {
    ProgressLine line("pack");
    const auto source = data::open_source(config, 0, data::kAnyLabel);
    summary = data::pack_shards(
        config, *source, pack, [&](std::int64_t index) { return data::pack_image(*source, index, pack); },
        [&](const data::PackProgress& progress) {
          line.show({progress.samples, progress.of, progress.samples_now, progress.bytes_now});
        });
    seconds = line.seconds();
  }
  print_bad(summary, pack.output);
  if (summary.has_too_many_bad) {
    throw DataError(fmt::format(
        "{} sample{} cannot be read, more than --max-bad-share {} allows; {} says which, and which shards "
        "lack them. To go on without, raise the share and say the same again; or mend them, remove those "
        "shards, and say the same again",
        summary.bad.size(), summary.bad.size() == 1 ? "" : "s", pack.max_bad_share,
        (pack.output / "bad_samples.txt").string()));
  }
  print_summary(summary, pack.output, seconds);
  return ExitCode::kDone;
}

}  // namespace cosub::tools
