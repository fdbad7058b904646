#include <fmt/format.h>

#include "common/config/schema.h"
#include "common/config/yaml.h"
#include "common/error.h"

namespace cosub::config {
namespace {

/// Reads into one of ArchValue's types.
template <class T>
Kind<ArchValue> arch_kind(const Kind<T>& inner) {
  Kind<ArchValue> kind;
  kind.allowed = inner.allowed;
  kind.read = [inner](const Tree& tree, ArchValue& value, Problems& problems) {
    T read{};
    inner.read(tree, read, problems);
    value = std::move(read);
  };
  return kind;
}

/// One number for the whole model, or one for each stage: families differ in what they want.
Kind<ArchValue> whole_or_list() {
  const auto one = arch_kind(whole(whole_at_least(1))),
             several = arch_kind(list_of(whole(whole_at_least(1))));
  Kind<ArchValue> kind;
  kind.allowed = "an integer >= 1, or a list of them";
  kind.read = [one, several](const Tree& tree, ArchValue& value, Problems& problems) {
    (tree.kind == Tree::Kind::kScalar ? one : several).read(tree, value, problems);
  };
  return kind;
}

Tree arch_tree(const ArchValue& value) {
  struct {
    Tree operator()(bool flag) const { return Tree::word(flag ? "true" : "false"); }
    Tree operator()(std::int64_t whole) const { return Tree::word(std::to_string(whole)); }
    Tree operator()(double number) const { return Tree::word(double_text(number)); }
    Tree operator()(const std::string& text) const { return Tree::text(text); }
    Tree operator()(const std::vector<std::int64_t>& list) const {
      Tree tree = Tree::list();
      for (const std::int64_t item : list) tree.items.push_back((*this)(item));
      return tree;
    }
  } to_tree;
  return std::visit(to_tree, value);
}

void add_arch_key(Fields<ArchConfig>& fields, const std::string& key, const Kind<ArchValue>& kind,
                  const std::string& help) {
  fields.add_custom(
      key, kind.allowed, help,
      [key, kind](const Tree& tree, ArchConfig& arch, Problems& problems) {
        if (tree.kind == Tree::Kind::kNothing)
          arch.erase(key);
        else
          kind.read(tree, arch[key], problems);
      },
      [key](const ArchConfig& arch, Keys) -> std::optional<Tree> {
        const auto found = arch.find(key);
        return found == arch.end() ? std::nullopt : std::optional(arch_tree(found->second));
      });
}

Fields<ArchConfig> make_arch_fields() {
  const auto positive = arch_kind(whole(whole_at_least(1)));
  const auto list = arch_kind(list_of(whole(whole_at_least(1))));
  const auto not_negative = arch_kind(number(at_least(0)));
  Fields<ArchConfig> fields;
  const auto add = [&fields](const char* key, const Kind<ArchValue>& kind, const char* help) {
    add_arch_key(fields, key, kind, help);
  };
  add("patch_size", positive, "ViT, PiT, XCiT, Swin, ConvNeXt: side of a patch in pixels");
  add("embed_dim", positive, "ViT, XCiT: width; Swin: width of the first stage");
  add("depth", whole_or_list(), "ViT, XCiT, RegNet: number of blocks; PiT: of each stage");
  add("num_heads", whole_or_list(), "ViT, XCiT: attention heads; Swin: of each stage");
  add("mlp_ratio", arch_kind(number(above(0))),
      "ViT, PiT, XCiT, Swin: hidden width of the MLP over the block's width");
  add("init_values", not_negative, "ViT: LayerScale's initial value; 0 turns it off");
  add("no_embed_class", arch_kind(flag()), "ViT: no position embedding on the class token");
  add("layers", list, "ResNet: blocks of each stage");
  add("channels", list, "ResNet: width of each stage");
  add("stem_type", arch_kind(words({"", "deep", "deep_tiered"})),
      "ResNet: '' is one 7x7 convolution, the others three 3x3");
  add("stem_width", positive, "ResNet: width of a deep stem; RegNet: of the stem");
  add("w0", positive, "RegNet: width of the first block, before rounding; a multiple of 8");
  add("wa", not_negative, "RegNet: growth of the width per block");
  add("wm", arch_kind(number(above(1))), "RegNet: factor between the widths of stages");
  add("group_size", positive, "RegNet: channels of a group of the 3x3 convolution");
  add("se_ratio", not_negative, "RegNet: squeeze-and-excitation's width over the block's input; 0: none");
  add("stride", positive, "PiT: step of the patches in pixels");
  add("base_dims", list, "PiT: width of a head in each stage");
  add("heads", list, "PiT: attention heads of each stage");
  add("eta", not_negative, "XCiT: LayerScale's initial value");
  add("tokens_norm", arch_kind(flag()),
      "XCiT: class attention normalises all tokens, not the class token alone");
  add("cls_attn_layers", positive, "XCiT: class attention blocks");
  add("window_size", positive, "Swin: side of an attention window in patches");
  add("depths", list, "Swin, ConvNeXt: blocks of each stage");
  add("dims", list, "ConvNeXt: width of each stage");
  add("conv_mlp", arch_kind(flag()), "ConvNeXt: the MLP's weights are 1x1 convolutions' (same function)");
  add("ls_init_value", not_negative, "ConvNeXt: LayerScale's initial value");
  return fields;
}

const Fields<ArchConfig>& arch_fields() {
  static const Fields<ArchConfig> fields = make_arch_fields();
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
               optional(enumeration<DropRateRule>(
                   {{"uniform", DropRateRule::kUniform}, {"linear", DropRateRule::kLinear}})),
               "the same rate in every block, or growing linearly from 0 to drop_rate; not set: linear for "
               "Swin and "
               "ConvNeXt, uniform for the others")
          .add("stochastic_depth", &ModelConfig::stochastic_depth,
               enumeration<StochasticDepth>(
                   {{"fixed", StochasticDepth::kFixed}, {"bernoulli", StochasticDepth::kBernoulli}}),
               "a fixed number of dropped rows, which saves their computation, or each row by chance as "
               "timm's DropPath")
          .add("allow_rounded_drop_rate", &ModelConfig::allow_rounded_drop_rate, flag(),
               "accept an effective rate more than 0.02 away from the wanted one (few rows in a microbatch)")
          .add("activation_checkpointing", &ModelConfig::activation_checkpointing, flag(),
               "keep only the input of each residual branch and compute the rest again in the backward pass: "
               "less memory, "
               "about a third more time; the numbers stay the same",
               Effect::kNone)
          .add("arch", &ModelConfig::arch, structure(arch_fields()),
               "changes to the named model, under timm's keyword names");
  return fields;
}

void set_arch_key(ArchConfig& arch, const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  const std::string key = assignment.substr(0, equals);
  if (equals == std::string::npos || key.empty())
    throw ConfigError(fmt::format("--arch {}: must be KEY=VALUE, as in depth=6", assignment));
  std::string value = assignment.substr(equals + 1);
  if (value.find(',') != std::string::npos && value.front() != '[') value = "[" + value + "]";
  Problems problems;
  const auto source = std::make_shared<const Source>(Source{"arch." + key, {}, true});
  Tree map = Tree::map();
  map.set(key, read_yaml(value, source, problems, "arch." + key));
  map.entries.back().place = map.entries.back().value.place;
  ArchConfig given;
  if (problems.empty()) arch_fields().read(map, given, problems);
  problems.throw_if_any();
  for (const auto& [name, item] : given) arch[name] = item;
}

ArchConfig arch_from_json(std::string_view json_object) {
  Problems problems;
  const auto source = std::make_shared<const Source>(Source{"model_args", {}, false});
  Tree map = read_yaml(std::string(json_object), source, problems, "model_args");  // JSON is YAML
  const auto& rows = arch_fields().shape().rows;
  std::erase_if(map.entries, [&](const TreeEntry& entry) {
    return std::none_of(rows.begin(), rows.end(), [&](const ShapeRow& row) { return row.key == entry.key; });
  });
  ArchConfig arch;
  if (problems.empty()) arch_fields().read(map, arch, problems);
  problems.throw_if_any();
  return arch;
}

}  // namespace cosub::config
