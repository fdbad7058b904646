// The description of one struct: its keys in order, each with member, kind, meaning and default. Made once
// per struct in schema.cpp; reading, printing, hashing and the reference all follow it, so that no key is
// written down twice.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "common/config/kinds.h"

namespace cosub::config {

/// Whether a key decides the numbers of a run; those that do not are left out of its identity.
enum class Effect { kDecides, kNone };

struct ShapeRow {
  std::string key;
  std::string allowed;
  std::string default_text;  // "" where there is none
  std::string help;
  bool required = false;
  Effect effect = Effect::kDecides;
  const Shape* shape = nullptr;  // of the struct below this key
  bool is_list = false;
  std::vector<std::string> only_with = {};  // values of the key `name` beside it; empty: any
};

/// What is known of a struct without its type.
struct Shape {
  std::vector<ShapeRow> rows;
};

/// "found unknown key 'x'; allowed: ... Did you mean 'y'?"; looks below the neighbours too ("optimizer.lr"
/// for "lr").
void refuse_unknown_key(const TreeEntry& entry, const Shape& shape, Problems& problems);
void refuse_missing_key(const Tree& map, const ShapeRow& row, Problems& problems);
/// A key that has no meaning with the struct's `name`: refused, unless it only came along from defaults or a
/// recipe for another name. `tree`: the struct's; it has the key.
void refuse_key_of_other_name(const Tree& tree, const ShapeRow& row, const std::string& name,
                              Problems& problems);
/// What the reference shows of a default: one line, "" for structs.
std::string default_shown(const Tree& tree);

template <class S>
class Fields {
 public:
  using Read = std::function<void(const Tree&, S&, Problems&)>;
  using Write = std::function<std::optional<Tree>(const S&, Keys)>;

  template <class T>
  Fields& add(const std::string& key, T S::*member, const Kind<T>& kind, const std::string& help,
              Effect effect = Effect::kDecides) {
    add_custom(
        key, kind.allowed, help,
        [member, read = kind.read](const Tree& tree, S& value, Problems& problems) {
          read(tree, value.*member, problems);
        },
        [member, write = kind.write](const S& value, Keys keys) { return write(value.*member, keys); },
        effect);
    shape_.rows.back().shape = kind.shape;
    shape_.rows.back().is_list = kind.is_list;
    return *this;
  }

  /// A key that is no single member, or that needs another member to be understood (fields are read in this
  /// order).
  Fields& add_custom(const std::string& key, const std::string& allowed, const std::string& help, Read read,
                     Write write, Effect effect = Effect::kDecides) {
    ShapeRow row{key, allowed, "", help, false, effect};
    if (const std::optional<Tree> tree = write(S(), Keys::kAll)) row.default_text = default_shown(*tree);
    shape_.rows.push_back(row);
    codecs_.push_back({std::move(read), std::move(write)});
    return *this;
  }

  /// A key that is settled before structs are read (recipe, defaults); here for the reference only.
  Fields& add_note(const std::string& key, const std::string& allowed, const std::string& help) {
    return add_custom(
        key, allowed, help, [](const Tree&, S&, Problems&) {},
        [](const S&, Keys) -> std::optional<Tree> { return std::nullopt; });
  }

  /// The key added last must be given.
  Fields& required() {
    shape_.rows.back().required = true;
    shape_.rows.back().default_text.clear();
    return *this;
  }

  /// The key added last has a meaning only with these values of the key `name`; with others it keeps its
  /// default.
  Fields& only_with(std::vector<std::string> names) {
    shape_.rows.back().only_with = std::move(names);
    return *this;
  }

  /// The default of the key added last is no value that anybody can give.
  Fields& without_default() {
    shape_.rows.back().default_text.clear();
    return *this;
  }

  void read(const Tree& tree, S& value, Problems& problems) const {
    if (tree.kind != Tree::Kind::kMap && tree.kind != Tree::Kind::kNothing) {
      problems.refuse(tree, "a mapping with the keys " + key_list());
      return;
    }
    for (const TreeEntry& entry : tree.entries) {
      if (!knows(entry.key)) refuse_unknown_key(entry, shape_, problems);
    }
    for (std::size_t i = 0; i < codecs_.size(); ++i) {
      if (const Tree* const given = tree.find(shape_.rows[i].key)) {
        codecs_[i].read(*given, value, problems);
      } else if (shape_.rows[i].required) {
        refuse_missing_key(tree, shape_.rows[i], problems);
      }
    }
    for (std::size_t i = 0; i < codecs_.size(); ++i) {
      if (!shape_.rows[i].only_with.empty()) read_only_with_name(i, tree, value, problems);
    }
  }

  Tree write(const S& value, Keys keys) const {
    Tree map = Tree::map();
    for (std::size_t i = 0; i < codecs_.size(); ++i) {
      if (keys == Keys::kDeciding && shape_.rows[i].effect == Effect::kNone) continue;
      if (keys == Keys::kAll && !has_meaning(shape_.rows[i], map)) continue;
      if (std::optional<Tree> tree = codecs_[i].write(value, keys))
        map.set(shape_.rows[i].key, *std::move(tree));
    }
    return map;
  }

  const Shape& shape() const { return shape_; }

 private:
  struct Codec {
    Read read;
    Write write;
  };
  /// With the `name` that is in `map` already.
  static bool has_meaning(const ShapeRow& row, const Tree& map) {
    return row.only_with.empty() ||
           std::ranges::find(row.only_with, map.find("name")->scalar) != row.only_with.end();
  }
  bool knows(const std::string& key) const {
    return std::any_of(shape_.rows.begin(), shape_.rows.end(),
                       [&](const ShapeRow& row) { return row.key == key; });
  }
  std::string key_list() const {
    std::string list;
    for (const ShapeRow& row : shape_.rows) list += (list.empty() ? "" : ", ") + row.key;
    return list;
  }

  void read_only_with_name(std::size_t index, const Tree& tree, S& value, Problems& problems) const {
    const ShapeRow& row = shape_.rows[index];
    const std::string name = write(value, Keys::kAll).find("name")->scalar;
    if (std::ranges::find(row.only_with, name) != row.only_with.end()) return;
    const std::optional<Tree> found = codecs_[index].write(value, Keys::kAll);
    const std::optional<Tree> unset = codecs_[index].write(S(), Keys::kAll);
    if (found->scalar == unset->scalar) return;
    refuse_key_of_other_name(tree, row, name, problems);
    codecs_[index].read(*unset, value, problems);
  }

  Shape shape_;
  std::vector<Codec> codecs_;
};

/// A struct by its description. The description must outlive the kind (those of schema.cpp live for ever).
template <class S>
Kind<S> structure(const Fields<S>& fields) {
  Kind<S> kind;
  kind.allowed = "a mapping";
  kind.shape = &fields.shape();
  kind.read = [&fields](const Tree& tree, S& value, Problems& problems) {
    fields.read(tree, value, problems);
  };
  kind.write = [&fields](const S& value, Keys keys) -> std::optional<Tree> {
    return fields.write(value, keys);
  };
  return kind;
}

}  // namespace cosub::config
