#include <fmt/format.h>

#include <map>

#include "common/config/pipeline.h"
#include "common/config/schema.h"

namespace cosub::config {
namespace {

constexpr auto kIntroduction = R"(# The pipeline file

<!-- Made by reference_markdown() from common/config/schema*.cpp: `COSUB_UPDATE_DOCS=1 COSUB_SOURCE_DIR=.
     build/release/tests/config_reference_test` writes it again. -->

A pipeline file is YAML: a name, what it runs on, and a list of stages. `configs/quickstart.yaml` is one to start from.
`cosub run --dry-run FILE` prints the file as it was understood, every key written out that means something with
the others.

- **Where a stage's keys come from**, in this order: the stage itself; for `model` the stage named by `init.stage` (for
  evaluate and export also `data.val`, `mean`, `std`, `interpolation` and `crop_ratio`); the pipeline's `defaults`; its `recipe`; the default below.
  Mappings are merged key by key, lists are taken as a whole.
- **On the command line** `--set stages.pretrain.optimizer.lr=2e-3` changes one key; a stage is addressed by its name.
  `--set defaults.ema=0.99` and `--set cluster.ranks=4` work alike.
- **Durations** are written 250ms, 30s, 15m, 24h or 2d. **Paths** of data are relative to the folder of the file they stand
  in (with `--set`: to the current folder).
- **Mistakes** are all reported at once, each with file, line, column and key.
- Keys marked ° do not change the numbers of a run (`attention`: only roundings on a GPU): it may be continued with other
  values of them.
)";

std::string escaped(const std::string& text) {
  std::string cell;
  for (const char letter : text) cell += letter == '|' ? "\\|" : std::string(1, letter);
  return cell;
}

std::string table_row(const ShapeRow& row, bool is_free) {
  std::string given = row.required               ? "required"
                      : row.default_text.empty() ? ""
                                                 : "`" + row.default_text + "`";
  return fmt::format("| `{}`{} | {} | {} | {} |\n", row.key, is_free ? " °" : "", escaped(row.allowed),
                     escaped(given), escaped(row.help));
}

/// One section for each struct, in the order of the file; a struct that stands in two places is described in
/// the first.
class Sections {
 public:
  std::string text;

  void add(const Shape& shape, const std::string& title, const std::string& prefix, bool is_free) {
    const auto [first, is_new] = described_.emplace(&shape, title);
    text += fmt::format("\n## {}\n\n", title);
    if (!is_new) {
      text += fmt::format("The keys of {}.\n", first->second);
      return;
    }
    text += "| Key | Allowed | Default | Meaning |\n|---|---|---|---|\n";
    for (const ShapeRow& row : shape.rows) text += table_row(row, is_free || row.effect == Effect::kNone);
    for (const ShapeRow& row : shape.rows) {
      if (row.shape == nullptr) continue;
      const std::string path = prefix + row.key + (row.is_list ? "[]" : "");
      add(*row.shape, "`" + path + "`", path + ".", is_free || row.effect == Effect::kNone);
    }
  }

 private:
  std::map<const Shape*, std::string> described_;
};

}  // namespace

std::string reference_markdown() {
  Sections sections;
  sections.add(pipeline_fields().shape(), "The pipeline", "", false);
  return kIntroduction + sections.text;
}

}  // namespace cosub::config
