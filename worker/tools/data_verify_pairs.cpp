#include "worker/tools/data_verify_pairs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "common/error.h"
#include "worker/data/image/decode.h"
#include "worker/data/image/mask.h"
#include "worker/data/storage/pair_source.h"
#include "worker/tools/class_pixels.h"
#include "worker/tools/number_check.h"
#include "worker/tools/verify_samples.h"

namespace cosub::tools {
namespace {

/// One thread's buffers and counts.
class PairCheck {
 public:
  PairCheck(const data::PairSource& source, const data::MaskClasses& classes, std::int64_t channels)
      : source_(source), classes_(classes), channels_(channels) {}

  void operator()(std::int64_t index) {
    const data::StoredPair stored = source_.read(index, image_bytes_, mask_bytes_);
    std::string file = source_.name(index);
    try {
      const data::ImageInfo info = data::read_info(stored.image);
      data::decode(stored.image, {0, 0, info.height, info.width}, channels_, image_);
      file = source_.mask_name(index);
      data::decode_mask(stored.mask, mask_);
      check_size(source_.name(index));
      check_values();
    } catch (const DataError& error) {
      throw DataError(fmt::format("{}: {}", file, error.what()));
    }
    pixels_.add(mask_);
  }
  const PixelsOfValues& pixels() const { return pixels_; }

 private:
  void check_size(const std::string& image_name) const {
    if (mask_.height == image_.height && mask_.width == image_.width) return;
    throw DataError(fmt::format("a mask of {} x {} pixels for an image of {} x {}: {}", mask_.width,
                                mask_.height, image_.width, image_.height, image_name));
  }
  void check_values() const {
    const std::uint16_t* const begin = mask_.values.data();
    const std::uint16_t* const end = begin + mask_.size();
    const auto is_bad = [this](std::uint16_t value) { return !classes_.is_allowed(value); };
    const std::uint16_t* const bad = std::find_if(begin, end, is_bad);
    if (bad == end) return;
    const std::int64_t others = std::count_if(bad + 1, end, is_bad), at = bad - begin;
    throw DataError(fmt::format(
        "the value {} at row {}, column {}{} is no class: {} to {} are, and {} is ignored", *bad,
        at / mask_.width, at % mask_.width, others == 0 ? "" : fmt::format(" (and {} more pixels)", others),
        classes_.zero_is_ignored ? 1 : 0, classes_.num_classes - (classes_.zero_is_ignored ? 0 : 1),
        classes_.ignore_value));
  }

  const data::PairSource& source_;
  const data::MaskClasses& classes_;
  std::int64_t channels_;
  data::ByteBuffer image_bytes_, mask_bytes_;
  data::Image image_;
  data::Mask mask_;
  PixelsOfValues pixels_;
};

}  // namespace

void add_mask_options(CLI::App& verify, MaskOptions& options) {
  CLI::Option* masks =
      verify
          .add_option("--masks", options.masks,
                      "PNG masks of the images below --folder, at the same paths; a line of --list is then "
                      "such a path without extension")
          ->needs(verify.get_option("--folder"));
  for (const char* other : {"--shards", "--images", "--labels", "--class-map"}) {
    masks->excludes(verify.get_option(other));
  }
  verify.add_option("--ignore-label", options.ignore_label, "the value of pixels that have no class")
      ->needs(masks)
      ->check(whole_from_to(0, 65535))
      ->capture_default_str();
  verify
      .add_flag("--zero-is-ignored", options.zero_is_ignored,
                "0 has no class either, 1 is class 0 and so on, as in ADE20K (mmsegmentation's "
                "reduce_zero_label)")
      ->needs(masks);
}

ExitCode run_data_verify_pairs(const DataVerifyOptions& options, const MaskOptions& masks) {
  const config::SourceConfig& set = options.source.source;
  const data::PairSource source(
      {.images = set.folder, .masks = masks.masks, .list = set.list, .limit = set.limit});
  const data::MaskClasses classes{.num_classes = options.classes,
                                  .ignore_value = masks.ignore_label,
                                  .zero_is_ignored = masks.zero_is_ignored};
  std::mutex mutex;
  std::list<PairCheck> checks;  // one a thread
  const auto bad = verify_samples(source.size(), options.threads, [&]() -> CheckSample {
    const std::lock_guard lock(mutex);
    PairCheck& check = checks.emplace_back(source, classes, options.channels);
    return [&check](std::int64_t index) { check(index); };
  });
  PixelsOfValues pixels;
  for (const PairCheck& check : checks) pixels.add(check.pixels());
  for (const auto& [index, reason] : bad) fmt::print("{}\n", reason);
  fmt::print("{} pairs, {} bad\n", source.size(), bad.size());
  fmt::print("{}", class_table(pixels, classes));
  return bad.empty() ? ExitCode::kDone : ExitCode::kBadInput;
}

}  // namespace cosub::tools
