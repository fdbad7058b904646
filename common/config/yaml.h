// YAML text to Tree and back. Reading uses yaml-cpp's parser events, because its node API loses the places of
// keys and hides duplicates. Anchors, aliases and merge keys (<<) work, within limits that keep a hostile
// file small.
#pragma once

#include <memory>
#include <string>

#include "common/config/problems.h"
#include "common/config/tree.h"

namespace cosub::config {

/// The first document of `text`; kNothing for an empty one. Syntax errors, duplicate keys, keys that are no
/// words and a second document become problems. `path` is the name of the document in messages ("" or the key
/// of a --set).
Tree read_yaml(const std::string& text, const std::shared_ptr<const Source>& source, Problems& problems,
               const std::string& path = "");

/// Block style; lists of scalars in brackets. Reads back as the same tree.
std::string print_yaml(const Tree& tree);

/// One line, in YAML's flow style.
std::string print_flow(const Tree& tree);

}  // namespace cosub::config
