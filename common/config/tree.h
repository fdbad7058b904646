// A YAML document as plain values that remember where they stand, so that every later message can say file,
// line, column and key. Made by yaml.h (or by --set), merged by resolve.h, turned into structs by fields.h;
// structs are turned back into such trees for printing and hashing. Values, copied freely.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cosub::config {

/// Where text came from: a file, or one --set argument.
struct Source {
  std::string name;              // as shown in messages: the file's name, or the key of a --set
  std::filesystem::path folder;  // absolute; relative data paths start here
  bool from_set = false;
};

struct Place {
  std::shared_ptr<const Source> source;
  int line = 0;  // from 1; 0: unknown or of no meaning (--set)
  int column = 0;
};

struct TreeEntry;

struct Tree {
  enum class Kind { kNothing, kScalar, kList, kMap };

  Kind kind = Kind::kNothing;
  std::string scalar;    // kScalar
  bool is_text = false;  // a string rather than a number, a flag or a word: printed with quotes where needed
  std::vector<Tree> items;         // kList
  std::vector<TreeEntry> entries;  // kMap, in the order of the text; keys are unique
  Place place;
  std::string path;  // "stages[0].optimizer.lr" as written, "" for the document

  static Tree word(std::string text);  // printed as it is
  static Tree text(std::string text);  // quoted where YAML needs it
  static Tree list();
  static Tree map();

  const Tree* find(std::string_view key) const;  // nullptr where absent or not a map
  Tree* find(std::string_view key);
  void set(const std::string& key, Tree value);  // appends; the key is new
  bool take(std::string_view key, Tree& value);  // removes the entry; false where there is none
};

struct TreeEntry {
  std::string key;
  Place place;
  Tree value;
};

/// Fills what `over` lacks from `under`, recursively through maps; lists and scalars of `over` stay as they
/// are.
void merge_under(Tree& over, const Tree& under);

/// The deepest node that exists on the way to `key` ("batch.global"), and the full name of the key for
/// messages.
struct Located {
  const Tree* node;
  std::string path;
  bool exists;
};
Located locate(const Tree& root, std::string_view key);

/// "a.b" out of "a" and "b"; the document itself has no name.
std::string join_path(const std::string& parent, std::string_view key);

}  // namespace cosub::config
