#include "common/config/schema.h"

namespace cosub::config {
namespace {

const Fields<ArchConfig>& arch_fields() {
  const auto positive = optional(whole(whole_at_least(1)));
  static const auto fields =
      Fields<ArchConfig>()
          .add("patch_size", &ArchConfig::patch_size, positive, "ViT: side of a patch in pixels")
          .add("embed_dim", &ArchConfig::embed_dim, positive, "ViT: width")
          .add("depth", &ArchConfig::depth, positive, "ViT: number of blocks")
          .add("num_heads", &ArchConfig::num_heads, positive, "ViT: attention heads; divides embed_dim")
          .add("mlp_ratio", &ArchConfig::mlp_ratio, optional(number(above(0))),
               "ViT: hidden width of the MLP over embed_dim")
          .add("init_values", &ArchConfig::init_values, optional(number(at_least(0))),
               "ViT: LayerScale's initial value; 0 turns it off")
          .add("layers", &ArchConfig::layers, optional(list_of(whole(whole_at_least(1)))),
               "ResNet: blocks per stage")
          .add("channels", &ArchConfig::channels, optional(list_of(whole(whole_at_least(1)))),
               "ResNet: width per stage")
          .add("stem_type", &ArchConfig::stem_type, optional(words({"", "deep", "deep_tiered"})),
               "ResNet: '' is one 7x7 convolution, the others three 3x3")
          .add("stem_width", &ArchConfig::stem_width, positive, "ResNet: width of a deep stem");
  return fields;
}

const Fields<IdxSource>& idx_fields() {
  static const auto fields =
      Fields<IdxSource>()
          .add("images", &IdxSource::images, data_path("a file in IDX format, plain or .gz"), "the images")
          .required()
          .add("labels", &IdxSource::labels, data_path("a file in IDX format, plain or .gz"), "their classes")
          .required();
  return fields;
}

const Fields<SourceConfig>& source_fields() {
  static const auto fields = Fields<SourceConfig>()
                                 .add("idx", &SourceConfig::idx, optional(structure(idx_fields())),
                                      "MNIST's format: one file of images, one of labels")
                                 .add("limit", &SourceConfig::limit, whole(whole_at_least(0)),
                                      "use only the first N samples; 0: all");
  return fields;
}

const Fields<AugmentConfig>& augment_fields() {
  static const auto fields =
      Fields<AugmentConfig>()
          .add("crop_padding_px", &AugmentConfig::crop_padding_px, whole(whole_at_least(0)),
               "random crop out of the image padded by this many pixels; 0: no crop")
          .add("flip", &AugmentConfig::flip, number(share()), "probability of a horizontal flip");
  return fields;
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

const Fields<ModelConfig>& model_fields() {
  static const auto fields =
      Fields<ModelConfig>()
          .add("name", &ModelConfig::name, text("a model's name as timm writes it"),
               "the architecture, e.g. deit3_small_patch16_224 or resnet18; required, or taken from "
               "init.stage")
          .add("classes", &ModelConfig::classes, whole(whole_at_least(1)),
               "number of classes; required, or taken from init.stage")
          .without_default()
          .add("channels", &ModelConfig::channels, whole(one_of({1, 3})), "of the input image")
          .add("image_size", &ModelConfig::image_size, whole(whole_at_least(1)),
               "side of the square input in pixels")
          .add("drop_rate", &ModelConfig::drop_rate, number(share_below_one()),
               "stochastic depth: the share of rows that a residual branch drops")
          .add("drop_rate_rule", &ModelConfig::drop_rate_rule,
               enumeration<DropRateRule>(
                   {{"uniform", DropRateRule::kUniform}, {"linear", DropRateRule::kLinear}}),
               "the same rate in every block, or growing linearly from 0 to drop_rate")
          .add("stochastic_depth", &ModelConfig::stochastic_depth,
               enumeration<StochasticDepth>(
                   {{"fixed", StochasticDepth::kFixed}, {"bernoulli", StochasticDepth::kBernoulli}}),
               "a fixed number of dropped rows, which saves their computation, or each row by chance as "
               "timm's DropPath")
          .add("allow_rounded_drop_rate", &ModelConfig::allow_rounded_drop_rate, flag(),
               "accept an effective rate more than 0.02 away from the wanted one (few rows in a microbatch)")
          .add("arch", &ModelConfig::arch, structure(arch_fields()),
               "changes to the named model, under timm's keyword names");
  return fields;
}

const Fields<DataConfig>& data_fields() {
  static const auto fields =
      Fields<DataConfig>()
          .add("train", &DataConfig::train, structure(source_fields()), "training images; needed by classify")
          .add("val", &DataConfig::val, structure(source_fields()),
               "validation images; needed by classify and evaluate")
          .add("mean", &DataConfig::mean, list_of(number(any_number())),
               "per channel, of pixels in 0 to 1; empty: 0.5 each")
          .add("std", &DataConfig::std, list_of(number(above(0))), "per channel; empty: 0.5 each")
          .add("augment", &DataConfig::augment, structure(augment_fields()), "how training images are varied")
          .add("mix", &DataConfig::mix, structure(mix_fields()),
               "how training images are mixed, as timm's Mixup does")
          .add("max_bad_share", &DataConfig::max_bad_share, number(share()),
               "share of unreadable samples above which the run stops")
          .add("loader_threads", &DataConfig::loader_threads, whole(whole_at_least(1)),
               "threads that read and prepare images, per rank", Effect::kNone);
  return fields;
}

}  // namespace cosub::config
