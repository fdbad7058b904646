#include "common/config/kinds.h"

#include <fmt/format.h>

#include <algorithm>

namespace cosub::config {
namespace {

/// A kind whose values are single scalars: `parse` gives nullopt for what it refuses.
template <class T>
Kind<T> scalar_kind(std::string allowed, std::function<std::optional<T>(const std::string&)> parse,
                    std::function<Tree(const T&)> print) {
  Kind<T> kind;
  kind.allowed = allowed;
  kind.read = [allowed, parse = std::move(parse)](const Tree& tree, T& value, Problems& problems) {
    std::optional<T> parsed;
    if (tree.kind == Tree::Kind::kScalar) parsed = parse(tree.scalar);
    if (parsed) {
      value = *std::move(parsed);
    } else {
      problems.refuse(tree, allowed);
    }
  };
  kind.write = [print = std::move(print)](const T& value, Keys) -> std::optional<Tree> {
    return print(value);
  };
  return kind;
}

}  // namespace

Range<double> any_number() {
  return {"a number", [](double) { return true; }};
}
Range<double> above(double limit) {
  return {"a number > " + double_text(limit), [limit](double x) { return x > limit; }};
}
Range<double> at_least(double limit) {
  return {"a number >= " + double_text(limit), [limit](double x) { return x >= limit; }};
}
Range<double> share() {
  return {"a number from 0 to 1", [](double x) { return x >= 0 && x <= 1; }};
}
Range<double> share_below_one() {
  return {"a number >= 0 and < 1", [](double x) { return x >= 0 && x < 1; }};
}
Range<double> share_above_zero() {
  return {"a number > 0 and <= 1", [](double x) { return x > 0 && x <= 1; }};
}
Range<std::int64_t> whole_at_least(std::int64_t limit) {
  // No count in a pipeline comes near this; products of a few of them stay within 64 bits.
  constexpr std::int64_t kMost = 1'000'000'000'000;
  return {fmt::format("a whole number >= {}", limit),
          [limit](std::int64_t x) { return x >= limit && x <= kMost; }};
}
Range<std::int64_t> one_of(std::vector<std::int64_t> values) {
  std::vector<std::string> names;
  for (const std::int64_t value : values) names.push_back(std::to_string(value));
  return {alternatives(names),
          [values](std::int64_t x) { return std::find(values.begin(), values.end(), x) != values.end(); }};
}

Kind<double> number(Range<double> range) {
  return scalar_kind<double>(
      range.allowed,
      [holds = range.holds](const std::string& text) {
        const std::optional<double> value = read_double(text);
        return value && holds(*value) ? value : std::nullopt;
      },
      [](double value) { return Tree::word(double_text(value)); });
}

Kind<std::int64_t> whole(Range<std::int64_t> range) {
  return scalar_kind<std::int64_t>(
      range.allowed,
      [holds = range.holds](const std::string& text) {
        const std::optional<std::int64_t> value = read_int(text);
        return value && holds(*value) ? value : std::nullopt;
      },
      [](std::int64_t value) { return Tree::word(std::to_string(value)); });
}

Kind<std::uint64_t> seed_number() {
  return scalar_kind<std::uint64_t>(
      "a whole number from 0 to 18446744073709551615",
      [](const std::string& text) { return read_unsigned(text); },
      [](std::uint64_t value) { return Tree::word(std::to_string(value)); });
}

Kind<bool> flag() {
  return scalar_kind<bool>(
      "true or false", [](const std::string& text) { return read_flag(text); },
      [](bool value) { return Tree::word(value ? "true" : "false"); });
}

Kind<std::string> text(std::string allowed) {
  return scalar_kind<std::string>(
      std::move(allowed), [](const std::string& given) { return std::optional(given); },
      [](const std::string& value) { return Tree::text(value); });
}

Kind<std::string> words(std::vector<std::string> allowed, std::vector<std::string> later) {
  Kind<std::string> kind = text(alternatives(allowed));
  kind.read = [allowed, later](const Tree& tree, std::string& value, Problems& problems) {
    const bool known = std::find(allowed.begin(), allowed.end(), tree.scalar) != allowed.end();
    if (tree.kind == Tree::Kind::kScalar && known) {
      value = tree.scalar;
    } else {
      refuse_word(tree, allowed, later, problems);
    }
  };
  return kind;
}

Kind<std::string> matching(std::string allowed, bool (*matches)(const std::string&)) {
  return scalar_kind<std::string>(
      std::move(allowed),
      [matches](const std::string& given) { return matches(given) ? std::optional(given) : std::nullopt; },
      [](const std::string& value) { return Tree::text(value); });
}

Kind<std::chrono::milliseconds> duration(std::chrono::milliseconds at_least) {
  const std::string limit = at_least.count() > 0 ? " of at least " + duration_text(at_least) : "";
  return scalar_kind<std::chrono::milliseconds>(
      fmt::format("a duration{} such as 250ms, 30s, 15m, 24h or 2d", limit),
      [at_least](const std::string& given) {
        const auto value = parse_duration(given);
        return value && *value >= at_least ? value : std::nullopt;
      },
      [](std::chrono::milliseconds value) { return Tree::word(duration_text(value)); });
}

Kind<std::filesystem::path> path_as_given(std::string allowed) {
  return scalar_kind<std::filesystem::path>(
      std::move(allowed),
      [](const std::string& given) {
        return given.empty() ? std::nullopt : std::optional<std::filesystem::path>(given);
      },
      [](const std::filesystem::path& value) { return Tree::text(value.string()); });
}

Kind<std::filesystem::path> data_path(std::string allowed) {
  Kind<std::filesystem::path> kind = path_as_given(allowed);
  kind.read = [allowed](const Tree& tree, std::filesystem::path& value, Problems& problems) {
    if (tree.kind != Tree::Kind::kScalar || tree.scalar.empty()) {
      problems.refuse(tree, allowed);
      return;
    }
    const std::filesystem::path folder = tree.place.source ? tree.place.source->folder : "";
    value = (folder / tree.scalar).lexically_normal();
  };
  kind.write = [write = kind.write](const std::filesystem::path& value, Keys keys) {
    return value.empty() ? std::nullopt : write(value, keys);
  };
  return kind;
}

std::string alternatives(const std::vector<std::string>& words) {
  std::string joined;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const bool is_last = i + 1 == words.size();
    joined += i == 0 ? "" : is_last ? " or " : ", ";
    joined += words[i].empty() ? "''" : words[i];
  }
  return joined;
}

void refuse_word(const Tree& tree, const std::vector<std::string>& allowed,
                 const std::vector<std::string>& later, Problems& problems) {
  if (tree.kind != Tree::Kind::kScalar) {
    problems.refuse(tree, alternatives(allowed));
  } else if (std::find(later.begin(), later.end(), tree.scalar) != later.end()) {
    problems.add(tree.place, tree.path,
                 fmt::format("found {}, which is not available in this version; allowed: {}.", shown(tree),
                             alternatives(allowed)));
  } else {
    problems.refuse(tree, alternatives(allowed), did_you_mean(tree.scalar, allowed));
  }
}

}  // namespace cosub::config
