// Everything found wrong in a configuration, collected so that one run of the program names all of it.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "common/config/tree.h"

namespace cosub::config {

class Problems {
 public:
  /// "file:line:column: path: what", or "--set KEY: what". The same sentence is kept once: keys of `defaults`
  /// are read once for every stage.
  void add(const Place& place, const std::string& path, const std::string& what);

  /// add() with "found X; allowed: Y." and what else helps ("Did you mean ...?", with its leading space).
  void refuse(const Tree& node, const std::string& allowed, const std::string& hint = "");

  /// Whether something was wrong with the value of this key; checks that involve it are then left out.
  bool concerns(const std::string& path) const { return paths_.count(path) > 0; }
  bool empty() const { return problems_.empty(); }

  /// All problems, one a line, by file and line; "" where there are none.
  std::string text() const;
  /// One ConfigError with that text; nothing where there are none.
  void throw_if_any() const;

 private:
  struct Problem {
    Place place;
    std::string text;
  };
  std::vector<Problem> problems_;
  std::set<std::string> texts_;
  std::set<std::string> paths_;
};

/// "'abc'", "a list", "a mapping" or "nothing", for "found ...".
std::string shown(const Tree& node);

/// The text in quotes, shortened and without control characters.
std::string quoted(const std::string& text);

}  // namespace cosub::config
