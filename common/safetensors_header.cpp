#include "common/safetensors_header.h"

#include <fmt/ranges.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <set>

namespace cosub::safetensors {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxDimensions = 64;  // PyTorch computes with no more

/// Takes the parser's events as they come, so that duplicate names are seen (a DOM would drop them), nothing
/// nests deeper than the format does, and no number is rounded. A handler returns false to end the parse;
/// defect_ says why.
class HeaderEvents final : public nlohmann::json_sax<json> {
 public:
  explicit HeaderEvents(Header& header) : header_(header) {}
  const std::string& defect() const { return defect_; }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_float(number_float_t, const string_t& text) override {
    return unexpected("the number " + in_quotes(text));
  }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        return fail("its shape is too large");
      if (tensor_.shape.size() == kMaxDimensions)
        return fail(fmt::format("its shape has more than {} dimensions", kMaxDimensions));
      tensor_.shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (place_ != Place::kOffsets) return unexpected("a number");
    if (num_offsets_ == 2) return fail("data_offsets must be two numbers");
    (num_offsets_++ == 0 ? tensor_.begin_bytes : tensor_.end_bytes) = value;
    return true;
  }

  bool string(string_t& text) override {
    if (place_ == Place::kMetadata) {
      header_.metadata[key_] = text;
      return true;
    }
    if (place_ != Place::kTensor || key_ != "dtype") return unexpected("text");
    const auto dtype = dtype_of(text);
    if (!dtype)
      return fail(
          fmt::format("unknown dtype {} (known: {})", in_quotes(text), fmt::join(dtype_names(), ", ")));
    tensor_.dtype = *dtype;
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kRoot;
    } else if (place_ == Place::kRoot) {
      place_ = name_ == "__metadata__" ? Place::kMetadata : Place::kTensor;
      seen_.clear();
      tensor_ = {};
      num_offsets_ = 0;
    } else {
      return unexpected("an object");
    }
    return true;
  }

  bool key(string_t& text) override {
    if (place_ == Place::kRoot) {
      name_ = text;
      if (!names_.insert(text).second) return fail("the name is there twice");
      return true;
    }
    key_ = text;
    if (!seen_.insert(text).second) return fail("key " + in_quotes(text) + " is there twice");
    if (place_ == Place::kTensor && text != "dtype" && text != "shape" && text != "data_offsets")
      return fail("unknown key " + in_quotes(text));
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      for (const char* key : {"dtype", "shape", "data_offsets"})
        if (!seen_.contains(key)) return fail(std::string(key) + " is missing");
      header_.tensors[name_] = tensor_;
    }
    place_ = place_ == Place::kRoot ? Place::kStart : Place::kRoot;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || key_ == "dtype") return unexpected("an array");
    place_ = key_ == "shape" ? Place::kShape : Place::kOffsets;
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && num_offsets_ != 2) return fail("data_offsets must be two numbers");
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    defect_ = fmt::format("header is not valid JSON at byte {}", position);
    return false;
  }

 private:
  enum class Place { kStart, kRoot, kMetadata, kTensor, kShape, kOffsets };

  bool fail(const std::string& what) {
    defect_ = names_.empty() ? "header: " + what : fmt::format("tensor {}: {}", in_quotes(name_), what);
    return false;
  }
  bool unexpected(const std::string& what) {
    const bool in_value = place_ != Place::kStart && place_ != Place::kRoot;
    return fail(in_value ? fmt::format("{} is not allowed in {}", what, in_quotes(key_))
                         : what + " instead of an object");
  }

  Header& header_;
  std::string defect_;
  Place place_ = Place::kStart;
  std::set<std::string> names_, seen_;
  std::string name_, key_;
  TensorInfo tensor_;
  int num_offsets_ = 0;
};

}  // namespace

std::string parse_header_json(std::string_view text, Header& header) {
  // The parser takes a NUL for the end and would ignore whatever follows it.
  if (text.find('\0') != std::string_view::npos) return "header holds a NUL byte";
  HeaderEvents events(header);
  if (!json::sax_parse(text.begin(), text.end(), &events)) return events.defect();
  return "";
}

std::string in_quotes(std::string_view name) {
  constexpr std::size_t kMaxLength = 100;
  const std::string shown =
      name.size() > kMaxLength ? std::string(name.substr(0, kMaxLength)) + "..." : std::string(name);
  return json(shown).dump(-1, ' ', true, json::error_handler_t::replace);
}

}  // namespace cosub::safetensors
