// Kinds of values that a key can take: how one is read from a tree (or refused, with its place), written
// back, and described to people. schema.cpp combines them into the description of every struct. Immutable
// once made.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/config/problems.h"
#include "common/config/scalar.h"
#include "common/config/tree.h"
#include "common/text.h"

namespace cosub::config {

/// Which keys to write: all, or those that decide the numbers of a run.
enum class Keys { kAll, kDeciding };

struct Shape;

template <class T>
struct Kind {
  std::string allowed;                                       // "a number > 0", for messages and the reference
  std::function<void(const Tree&, T&, Problems&)> read;      // leaves the value as it is where it refuses
  std::function<std::optional<Tree>(const T&, Keys)> write;  // nullopt: not set, its key is left out
  const Shape* shape = nullptr;                              // of a struct, or of a list's structs
  bool is_list = false;
};

/// Bounds of a number, with the words for them.
template <class T>
struct Range {
  std::string allowed;
  std::function<bool(T)> holds;
};
Range<double> any_number();
Range<double> above(double limit);
Range<double> at_least(double limit);
Range<double> share();             // [0, 1]
Range<double> share_below_one();   // [0, 1)
Range<double> share_above_zero();  // (0, 1]
Range<std::int64_t> whole_at_least(std::int64_t limit);
Range<std::int64_t> one_of(std::vector<std::int64_t> values);

Kind<double> number(Range<double> range);
Kind<std::int64_t> whole(Range<std::int64_t> range);
Kind<std::uint64_t> seed_number();
Kind<bool> flag();
Kind<std::string> text(std::string allowed = "text");
/// One of `allowed`; those in `later` are known words that this version does not have yet.
Kind<std::string> words(std::vector<std::string> allowed, std::vector<std::string> later = {});
Kind<std::string> matching(std::string allowed, bool (*matches)(const std::string&));
Kind<std::chrono::milliseconds> duration(std::chrono::milliseconds at_least);
Kind<std::filesystem::path> path_as_given(std::string allowed);
/// Absolute after reading: relative ones start at the folder of the file they stand in (of --set: the current
/// one). An empty path is one that is not set, and is not written.
Kind<std::filesystem::path> data_path(std::string allowed);

/// "adamw", "'a' or 'b'", "a, b or c": for messages.
std::string alternatives(const std::vector<std::string>& words);
/// Refuses a scalar that is none of the words, with the nearest of them; says so where it is one for later.
void refuse_word(const Tree& tree, const std::vector<std::string>& allowed,
                 const std::vector<std::string>& later, Problems& problems);

template <class E>
Kind<E> enumeration(std::vector<std::pair<std::string, E>> values) {
  std::vector<std::string> names;
  for (const auto& value : values) names.push_back(value.first);
  Kind<E> kind;
  kind.allowed = alternatives(names);
  kind.read = [values, names](const Tree& tree, E& value, Problems& problems) {
    for (const auto& [name, meaning] : values) {
      if (tree.kind == Tree::Kind::kScalar && tree.scalar == name) {
        value = meaning;
        return;
      }
    }
    refuse_word(tree, names, {}, problems);
  };
  kind.write = [values](const E& value, Keys) -> std::optional<Tree> {
    for (const auto& [name, meaning] : values) {
      if (meaning == value) return Tree::word(name);
    }
    return std::nullopt;
  };
  return kind;
}

/// A value that may be absent; null takes an inherited one away.
template <class T>
Kind<std::optional<T>> optional(Kind<T> inner) {
  Kind<std::optional<T>> kind;
  kind.allowed = inner.allowed;
  kind.shape = inner.shape;
  kind.read = [inner](const Tree& tree, std::optional<T>& value, Problems& problems) {
    value.reset();
    if (tree.kind != Tree::Kind::kNothing) inner.read(tree, value.emplace(), problems);
  };
  kind.write = [inner](const std::optional<T>& value, Keys keys) {
    return value ? inner.write(*value, keys) : std::nullopt;
  };
  return kind;
}

/// A list; one value alone may stand without brackets where its kind is a scalar.
template <class T>
Kind<std::vector<T>> list_of(Kind<T> inner) {
  Kind<std::vector<T>> kind;
  kind.allowed = inner.shape != nullptr ? "a list of mappings" : "a list, each " + inner.allowed;
  kind.shape = inner.shape;
  kind.is_list = true;
  kind.read = [inner, allowed = kind.allowed](const Tree& tree, std::vector<T>& value, Problems& problems) {
    value.clear();
    if (tree.kind == Tree::Kind::kNothing) return;
    if (tree.kind == Tree::Kind::kScalar && inner.shape == nullptr) {
      inner.read(tree, value.emplace_back(), problems);
      return;
    }
    if (tree.kind != Tree::Kind::kList) {
      problems.refuse(tree, allowed);
      return;
    }
    for (const Tree& item : tree.items) inner.read(item, value.emplace_back(), problems);
  };
  kind.write = [inner](const std::vector<T>& value, Keys keys) -> std::optional<Tree> {
    Tree list = Tree::list();
    for (const T& item : value) list.items.push_back(inner.write(item, keys).value_or(Tree()));
    return list;
  };
  return kind;
}

}  // namespace cosub::config
