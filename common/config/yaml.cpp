#include "common/config/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>

#include "common/config/scalar.h"

namespace cosub::config {
namespace {

constexpr std::size_t kMostNodes = 100'000;  // aliases of aliases grow exponentially
constexpr int kDeepest = 64;

Place place_of(const std::shared_ptr<const Source>& source, const YAML::Mark& mark) {
  if (source->from_set || mark.is_null()) return {source, 0, 0};
  return {source, mark.line + 1, mark.column + 1};
}

YAML::Mark mark_of(const std::string& text, std::size_t at) {
  YAML::Mark mark;
  mark.line =
      static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
  const std::size_t line_end = at == 0 ? std::string::npos : text.rfind('\n', at - 1);
  mark.column = static_cast<int>(at - (line_end == std::string::npos ? 0 : line_end + 1));
  mark.pos = static_cast<int>(at);
  return mark;
}

std::size_t count_nodes(const Tree& tree) {
  std::size_t count = 1;
  for (const Tree& item : tree.items) count += count_nodes(item);
  for (const TreeEntry& entry : tree.entries) count += count_nodes(entry.value);
  return count;
}

int depth_of(const Tree& tree) {
  int deepest = 0;
  for (const Tree& item : tree.items) deepest = std::max(deepest, depth_of(item));
  for (const TreeEntry& entry : tree.entries) deepest = std::max(deepest, depth_of(entry.value));
  return deepest + 1;
}

/// Builds the tree bottom-up from yaml-cpp's events. Maps keep duplicate keys and merge keys; name_keys()
/// settles them.
class Builder : public YAML::EventHandler {
 public:
  explicit Builder(std::shared_ptr<const Source> source) : source_(std::move(source)) {}

  Tree root;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { finish(node(mark), anchor); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) throw YAML::ParserException(mark, "an anchor that contains itself");
    num_nodes_ += count_nodes(found->second);
    check_size(mark);
    if (static_cast<int>(open_.size()) + depth_of(found->second) > kDeepest) too_deep(mark);
    finish(Tree(found->second), YAML::NullAnchor);
  }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                const std::string& value) override {
    Tree scalar = node(mark);
    scalar.kind = Tree::Kind::kScalar;
    scalar.scalar = value;
    finish(std::move(scalar), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, Tree::Kind::kList, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, Tree::Kind::kMap, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    Tree tree;
    YAML::anchor_t anchor;
    YAML::Mark mark;
    std::optional<TreeEntry> key;  // read, its value not yet
  };

  Tree node(const YAML::Mark& mark) {
    ++num_nodes_;
    check_size(mark);
    Tree tree;
    tree.place = place_of(source_, mark);
    return tree;
  }
  void check_size(const YAML::Mark& mark) const {
    if (num_nodes_ > kMostNodes) {
      throw YAML::ParserException(mark, fmt::format("more than {} values (aliases counted)", kMostNodes));
    }
  }
  [[noreturn]] static void too_deep(const YAML::Mark& mark) {
    throw YAML::ParserException(mark, fmt::format("nested deeper than {} levels", kDeepest));
  }
  void open(const YAML::Mark& mark, Tree::Kind kind, YAML::anchor_t anchor) {
    if (open_.size() >= kDeepest) too_deep(mark);
    Tree tree = node(mark);
    tree.kind = kind;
    open_.push_back({std::move(tree), anchor, mark, std::nullopt});
  }
  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    finish(std::move(done.tree), done.anchor);
  }
  void finish(Tree tree, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) anchors_[anchor] = tree;
    if (open_.empty()) {
      root = std::move(tree);
    } else if (Open& parent = open_.back(); parent.tree.kind == Tree::Kind::kList) {
      parent.tree.items.push_back(std::move(tree));
    } else if (parent.key) {
      parent.key->value = std::move(tree);
      parent.tree.entries.push_back(std::move(*parent.key));
      parent.key.reset();
    } else {
      if (tree.kind != Tree::Kind::kScalar) {
        YAML::Mark mark = parent.mark;
        if (tree.place.line > 0) mark.line = tree.place.line - 1, mark.column = tree.place.column - 1;
        throw YAML::ParserException(mark, fmt::format("found {} where a key is needed", shown(tree)));
      }
      parent.key = TreeEntry{tree.scalar, tree.place, Tree()};
    }
  }

  std::shared_ptr<const Source> source_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Tree> anchors_;
  std::size_t num_nodes_ = 0;
};

/// What usually lies behind yaml-cpp's shorter messages.
std::string hint_for(const std::string& message) {
  if (message == "illegal map value")
    return " (a ':' too many, or wrong indentation, in this line or the one before)";
  if (message == "end of map not found" || message == "end of sequence not found") {
    return " (this line is indented unlike the lines before it)";
  }
  if (message.find("flow") != std::string::npos) return " (a bracket or comma is missing before this)";
  return "";
}

/// What `<<: *base` (or a list of them) brings, for keys that are not given beside it.
void apply_merge_key(Tree& tree, Problems& problems) {
  Tree merged;
  if (!tree.take("<<", merged)) return;
  std::vector<Tree> bases;
  if (merged.kind == Tree::Kind::kList) {
    bases = std::move(merged.items);
  } else {
    bases.push_back(std::move(merged));
  }
  for (const Tree& base : bases) {
    if (base.kind != Tree::Kind::kMap) {
      problems.add(base.place, join_path(tree.path, "<<"),
                   fmt::format("found {}; allowed: a mapping.", shown(base)));
      continue;
    }
    for (const TreeEntry& entry : base.entries) {
      if (tree.find(entry.key) == nullptr) tree.entries.push_back(entry);
    }
  }
}

void name_keys(Tree& tree, const std::string& path, Problems& problems) {
  tree.path = path;
  for (std::size_t i = 0; i < tree.items.size(); ++i) {
    name_keys(tree.items[i], fmt::format("{}[{}]", path, i), problems);
  }
  std::map<std::string, Place> seen;
  std::vector<TreeEntry> unique;
  for (TreeEntry& entry : tree.entries) {
    const auto [first, is_new] = seen.emplace(entry.key, entry.place);
    if (!is_new) {
      problems.add(entry.place, join_path(path, entry.key),
                   fmt::format("given twice, first in line {}; keep one of them.", first->second.line));
      continue;
    }
    unique.push_back(std::move(entry));
  }
  tree.entries = std::move(unique);
  apply_merge_key(tree, problems);
  for (TreeEntry& entry : tree.entries) name_keys(entry.value, join_path(path, entry.key), problems);
}

}  // namespace

Tree read_yaml(const std::string& text, const std::shared_ptr<const Source>& source, Problems& problems,
               const std::string& path) {
  Tree nothing;
  nothing.path = path;
  nothing.place = {source, source->from_set ? 0 : 1, 1};
  if (const std::optional<std::size_t> at = find_unreadable(text)) {
    problems.add(place_of(source, mark_of(text, *at)), path, "not UTF-8 text, or a control character.");
    return nothing;
  }
  Builder builder(source);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    Builder rest(source);
    if (parser.HandleNextDocument(builder) && parser.HandleNextDocument(rest)) {
      problems.add(rest.root.place, path, "a second YAML document begins here; allowed: one document.");
    }
  } catch (const YAML::Exception& error) {
    problems.add(place_of(source, error.mark), path,
                 fmt::format("not valid YAML: {}{}.", error.msg, hint_for(error.msg)));
    return nothing;
  }
  if (!builder.root.place.source) return nothing;
  name_keys(builder.root, path, problems);
  return std::move(builder.root);
}

namespace {

std::string print_scalar(const Tree& tree) {
  return tree.is_text ? yaml_scalar(tree.scalar) : tree.scalar;
}

bool fits_a_line(const Tree& tree) {
  return tree.kind != Tree::Kind::kMap &&
         std::all_of(tree.items.begin(), tree.items.end(),
                     [](const Tree& item) { return item.kind == Tree::Kind::kScalar; });
}

void print_block(const Tree& map, const std::string& indent, std::string& out);

void print_value(const Tree& value, const std::string& indent, std::string& out) {
  if (fits_a_line(value) || (value.entries.empty() && value.items.empty())) {
    out += " " + print_flow(value) + "\n";
    return;
  }
  out += "\n";
  if (value.kind == Tree::Kind::kMap) {
    print_block(value, indent + "  ", out);
    return;
  }
  for (const Tree& item : value.items) {
    std::string block;
    print_block(item, indent + "    ", block);
    block.replace(indent.size() + 2, 1, "-");
    out += block;
  }
}

void print_block(const Tree& map, const std::string& indent, std::string& out) {
  for (const TreeEntry& entry : map.entries) {
    out += indent + entry.key + ":";
    print_value(entry.value, indent, out);
  }
}

}  // namespace

std::string print_yaml(const Tree& tree) {
  std::string out;
  print_block(tree, "", out);
  return out;
}

std::string print_flow(const Tree& tree) {
  std::string out;
  switch (tree.kind) {
    case Tree::Kind::kNothing:
      return "null";
    case Tree::Kind::kScalar:
      return print_scalar(tree);
    case Tree::Kind::kList:
      for (const Tree& item : tree.items) out += (out.empty() ? "" : ", ") + print_flow(item);
      return "[" + out + "]";
    case Tree::Kind::kMap:
      for (const TreeEntry& entry : tree.entries) {
        out += (out.empty() ? "" : ", ") + entry.key + ": " + print_flow(entry.value);
      }
      return "{" + out + "}";
  }
  return out;
}

}  // namespace cosub::config
