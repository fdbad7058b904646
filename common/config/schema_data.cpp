#include <algorithm>

#include "common/braces.h"
#include "common/config/rand_augment.h"
#include "common/config/schema.h"
#include "common/error.h"

namespace cosub::config {
namespace {

const Fields<IdxSource>& idx_fields() {
  static const auto fields =
      Fields<IdxSource>()
          .add("images", &IdxSource::images, data_path("a file in IDX format, plain or .gz"), "the images")
          .required()
          .add("labels", &IdxSource::labels, data_path("a file in IDX format, plain or .gz"), "their classes")
          .required();
  return fields;
}

Kind<std::filesystem::path> shard_pattern() {
  Kind<std::filesystem::path> kind = data_path("tar files, e.g. /data/{000000..002047}.tar");
  kind.read = [read = kind.read](const Tree& tree, std::filesystem::path& value, Problems& problems) {
    read(tree, value, problems);
    try {
      expand_braces(value.string());
    } catch (const DataError& error) {
      problems.add(tree.place, tree.path, error.what());
    }
  };
  return kind;
}

const Fields<SourceConfig>& source_fields() {
  static const auto fields =
      Fields<SourceConfig>()
          .add("folder", &SourceConfig::folder, data_path("a folder"),
               "one sub-folder per class with its images, as torchvision's ImageFolder")
          .add("list", &SourceConfig::list, data_path("a text file"),
               "the samples of folder, one \"path label\" per line; not set: all of its sub-folders")
          .add("shards", &SourceConfig::shards, list_of(shard_pattern()),
               "tar files in WebDataset's convention, plain; `cosub data index` first")
          .add("class_map", &SourceConfig::class_map, data_path("a text file"),
               "of folder: one class name per line, in the order of their numbers; not set: its "
               "sub-folders, sorted")
          .add("idx", &SourceConfig::idx, optional(structure(idx_fields())),
               "MNIST's format: one file of images, one of labels")
          .add("limit", &SourceConfig::limit, whole(whole_at_least(0)),
               "use only the first N samples; 0: all");
  return fields;
}

Kind<std::string> rand_augment_text() {
  Kind<std::string> kind = text("timm's notation, e.g. rand-m9-mstd0.5-inc1");
  kind.read = [read = kind.read](const Tree& tree, std::string& value, Problems& problems) {
    if (tree.kind == Tree::Kind::kNothing) return value.clear();
    read(tree, value, problems);
    if (tree.kind != Tree::Kind::kScalar || value.empty()) return;
    try {
      parse_rand_augment(value);
    } catch (const ConfigError& error) {
      problems.add(tree.place, tree.path, error.what());
    }
  };
  return kind;
}

const Fields<AugmentConfig>& augment_fields() {
  static const auto fields =
      Fields<AugmentConfig>()
          .add("crop", &AugmentConfig::crop,
               enumeration<Crop>({{"none", Crop::kNone},
                                  {"random_resized", Crop::kRandomResized},
                                  {"simple", Crop::kSimple}}),
               "none: the whole image, resized; random_resized: as torchvision's RandomResizedCrop; simple: "
               "resized to the shorter side, padded by 4 mirrored pixels, cropped (DeiT III)")
          .add("scale", &AugmentConfig::scale, list_of(number(share())),
               "random_resized: share of the image's area, from and to")
          .add("ratio", &AugmentConfig::ratio, list_of(number(above(0))),
               "random_resized: width over height, from and to")
          .add("crop_padding_px", &AugmentConfig::crop_padding_px, whole(whole_at_least(0)),
               "random crop out of the image padded by this many pixels; 0: no crop")
          .add("flip", &AugmentConfig::flip, number(share()), "probability of a horizontal flip")
          .add("three_augment", &AugmentConfig::three_augment, flag(),
               "3-Augment (DeiT III): each image is made grey, solarised or blurred")
          .add("color_jitter", &AugmentConfig::color_jitter, number(at_least(0)),
               "brightness, contrast and saturation by factors in 1 -/+ this, in random order, as "
               "torchvision's ColorJitter")
          .add("rand_augment", &AugmentConfig::rand_augment, rand_augment_text(), "RandAugment; empty: none")
          .add("erasing", &AugmentConfig::erasing, number(share()),
               "probability of random erasing, as timm's --reprob")
          .add("erasing_mode", &AugmentConfig::erasing_mode,
               enumeration<ErasingMode>({{"pixel", ErasingMode::kPixel}, {"const", ErasingMode::kConst}}),
               "pixel: with noise; const: with zeros (the mean)");
  return fields;
}

/// The sets of transforms that published recipes use, by name; docs/data.md says whose they are.
const std::vector<std::pair<std::string, AugmentConfig>>& augment_presets() {
  static const std::vector<std::pair<std::string, AugmentConfig>> presets = {
      {"random_resized", {.crop = Crop::kRandomResized, .flip = 0.5}},
      {"three_augment",
       {.crop = Crop::kRandomResized, .flip = 0.5, .three_augment = true, .color_jitter = 0.3}},
      {"three_augment_src", {.crop = Crop::kSimple, .flip = 0.5, .three_augment = true, .color_jitter = 0.3}},
      {"rand_augment",
       {.crop = Crop::kRandomResized, .flip = 0.5, .rand_augment = "rand-m9-mstd0.5-inc1", .erasing = 0.25}},
  };
  return presets;
}

/// A mapping, or the name of one of the presets.
Kind<AugmentConfig> augmentation() {
  std::vector<std::string> names;
  for (const auto& preset : augment_presets()) names.push_back(preset.first);
  Kind<AugmentConfig> kind = structure(augment_fields());
  kind.allowed = "a mapping, or " + alternatives(names);
  kind.read = [read = kind.read, names](const Tree& tree, AugmentConfig& value, Problems& problems) {
    if (tree.kind != Tree::Kind::kScalar) return read(tree, value, problems);
    const auto found =
        std::ranges::find(augment_presets(), tree.scalar, &std::pair<std::string, AugmentConfig>::first);
    if (found == augment_presets().end()) return refuse_word(tree, names, {}, problems);
    value = found->second;
  };
  return kind;
}

const Fields<MixConfig>& mix_fields() {
  static const auto fields =
      Fields<MixConfig>()
          .add("mixup", &MixConfig::mixup, number(at_least(0)),
               "Mixup: alpha of the Beta distribution; 0: off")
          .add("cutmix", &MixConfig::cutmix, number(at_least(0)),
               "CutMix: alpha of the Beta distribution; 0: off")
          .add("prob", &MixConfig::prob, number(share()), "that a microbatch is mixed at all")
          .add("switch_prob", &MixConfig::switch_prob, number(share()),
               "of CutMix rather than Mixup where both are on")
          .add("smoothing", &MixConfig::smoothing, number(share_below_one()), "label smoothing");
  return fields;
}

}  // namespace

const Fields<DataConfig>& data_fields() {
  static const auto fields =
      Fields<DataConfig>()
          .add("train", &DataConfig::train, structure(source_fields()), "training images; needed by classify")
          .add("val", &DataConfig::val, structure(source_fields()),
               "validation images; needed by classify and evaluate")
          .add("shuffle", &DataConfig::shuffle,
               enumeration<Shuffle>({{"full", Shuffle::kFull}, {"windowed", Shuffle::kWindowed}}),
               "full: any sample anywhere in the epoch; windowed: blocks of neighbouring samples are "
               "shuffled, "
               "then samples within a window of blocks, for storage that is slow at random reads")
          .add("shuffle_block", &DataConfig::shuffle_block, whole(whole_at_least(1)),
               "windowed: neighbouring samples in a block")
          .add("shuffle_blocks", &DataConfig::shuffle_blocks, whole(whole_at_least(1)),
               "windowed: blocks in a window")
          .add(
              "repeats", &DataConfig::repeats, whole(whole_at_least(1)),
              "repeated augmentation: each sample stands this often in a step, in different microbatches; an "
              "epoch keeps its steps and sees 1/repeats of the samples, as DeiT's")
          .add("decode", &DataConfig::decode,
               enumeration<Decode>({{"cpu", Decode::kCpu}, {"nvjpeg", Decode::kNvjpeg}}),
               "training: cpu: in the loader's threads; nvjpeg: JPEGs on the GPU, which also crops, resizes "
               "and flips, with crop none or random_resized, flip, erasing and mix only; evaluation always "
               "decodes on the CPU")
          .add("interpolation", &DataConfig::interpolation,
               enumeration<Interpolation>(
                   {{"bilinear", Interpolation::kBilinear}, {"bicubic", Interpolation::kBicubic}}),
               "of all resizing, with anti-aliasing")
          .add("crop_ratio", &DataConfig::crop_ratio, number(share_above_zero()),
               "evaluation: side of the centre crop over the shorter side of the resized image")
          .add("mean", &DataConfig::mean, list_of(number(any_number())),
               "per channel, of pixels in 0 to 1; empty: 0.5 each")
          .add("std", &DataConfig::std, list_of(number(above(0))), "per channel; empty: 0.5 each")
          .add("augment", &DataConfig::augment, augmentation(), "how training images are varied")
          .add("mix", &DataConfig::mix, structure(mix_fields()),
               "how training images are mixed, as timm's Mixup does")
          .add("shrink_px", &DataConfig::shrink_px, whole(whole_at_least(0)),
               "images whose shorter side is longer are made that small before they are cropped; 0: none")
          .add("cache_gib", &DataConfig::cache_gib, number(at_least(0)),
               "memory per rank for decoded training images, in GiB: whole ones are decoded (and shrunk to "
               "shrink_px), and kept until it is full; 0: none",
               Effect::kNone)
          .add("read_timeout", &DataConfig::read_timeout, duration(std::chrono::milliseconds(1)),
               "how long reading one sample may take before the attempt ends, naming it", Effect::kNone)
          .add("max_bad_share", &DataConfig::max_bad_share, number(share()),
               "share of the training set that may be unreadable; with more bad samples the run stops",
               Effect::kNone)
          .add("loader_threads", &DataConfig::loader_threads, whole(whole_at_least(1)),
               "threads that read and prepare images, per rank", Effect::kNone);
  return fields;
}

}  // namespace cosub::config
