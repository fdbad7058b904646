#include "common/config/tree.h"

#include <algorithm>

namespace cosub::config {

Tree Tree::word(std::string text) {
  Tree tree;
  tree.kind = Kind::kScalar;
  tree.scalar = std::move(text);
  return tree;
}

Tree Tree::text(std::string text) {
  Tree tree = word(std::move(text));
  tree.is_text = true;
  return tree;
}

Tree Tree::list() {
  Tree tree;
  tree.kind = Kind::kList;
  return tree;
}

Tree Tree::map() {
  Tree tree;
  tree.kind = Kind::kMap;
  return tree;
}

const Tree* Tree::find(std::string_view key) const {
  for (const TreeEntry& entry : entries) {
    if (entry.key == key) return &entry.value;
  }
  return nullptr;
}

Tree* Tree::find(std::string_view key) {
  for (TreeEntry& entry : entries) {
    if (entry.key == key) return &entry.value;
  }
  return nullptr;
}

void Tree::set(const std::string& key, Tree value) {
  Place where = value.place;
  entries.push_back({key, std::move(where), std::move(value)});
}

bool Tree::take(std::string_view key, Tree& value) {
  const auto found =
      std::find_if(entries.begin(), entries.end(), [&](const TreeEntry& entry) { return entry.key == key; });
  if (found == entries.end()) return false;
  value = std::move(found->value);
  entries.erase(found);
  return true;
}

void merge_under(Tree& over, const Tree& under) {
  if (under.kind != Tree::Kind::kMap) return;
  if (over.kind == Tree::Kind::kNothing) {
    over = under;  // "optimizer:" with nothing below it says nothing
    return;
  }
  if (over.kind != Tree::Kind::kMap) return;
  for (const TreeEntry& entry : under.entries) {
    if (Tree* const own = over.find(entry.key)) {
      merge_under(*own, entry.value);
    } else {
      over.entries.push_back(entry);
    }
  }
}

Located locate(const Tree& root, std::string_view key) {
  const Tree* node = &root;
  while (!key.empty()) {
    const std::string_view first = key.substr(0, key.find('.'));
    const Tree* const next = node->find(first);
    if (next == nullptr) return {node, join_path(node->path, key), false};
    node = next;
    key.remove_prefix(std::min(key.size(), first.size() + 1));
  }
  return {node, node->path, true};
}

std::string join_path(const std::string& parent, std::string_view key) {
  return parent.empty() ? std::string(key) : parent + "." + std::string(key);
}

}  // namespace cosub::config
