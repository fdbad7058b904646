#include "common/foreign_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

namespace cosub {
namespace {

using namespace std::string_view_literals;

struct Kind {
  std::string_view magic;
  std::string_view description;
};
constexpr std::array<Kind, 5> kKinds = {
    {{"version https://git-lfs"sv,
      "a Git LFS pointer, which stands for the weights in a clone without them. Run 'git lfs pull' there"},
     {"\x93NUMPY"sv,
      "a NumPy array (.npy), not safetensors. Save the tensors by name with safetensors.numpy.save_file"},
     {"\x89HDF\r\n"sv, "an HDF5 file (as Keras writes), not safetensors"},
     {"\x1f\x8b\x08"sv, "gzip-compressed. Unpack it first (gunzip)"},
     {"\x28\xb5\x2f\xfd"sv, "zstd-compressed. Unpack it first (unzstd)"}}};

/// A literal that JSON and Python read alike.
std::string literal(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string converted_name(const std::string& path) {
  const std::filesystem::path given(path);
  std::filesystem::path converted(given);
  converted.replace_extension(".safetensors");
  if (converted == given) converted.replace_extension(".converted.safetensors");
  return converted.string();
}

/// Weights are at the top, or under 'model' (DeiT, MAE, Swin) or 'state_dict' (timm, Lightning). Copies,
/// because save_file refuses tensors that share memory.
std::string conversion(const std::string& path) {
  return fmt::format(
      "Convert it once with Python:\n"
      "  import torch, safetensors.torch; w = torch.load({}, map_location=\"cpu\", weights_only=True); "
      "w = w.get(\"model\", w); w = w.get(\"state_dict\", w); safetensors.torch.save_file("
      "{{n: t.clone().contiguous() for n, t in w.items() if torch.is_tensor(t)}}, {})",
      literal(path), literal(converted_name(path)));
}

/// torch.save's zip since PyTorch 1.6, or NumPy's. The first member's name tells them apart.
std::string describe_zip(std::string_view text, const std::string& path) {
  constexpr std::size_t kLengthAt = 26, kNameAt = 30;
  const std::size_t length = text.size() < kNameAt ? 0 : static_cast<unsigned char>(text[kLengthAt]);
  if (length > 0 && text.substr(kNameAt, length).ends_with(".npy"))
    return fmt::format(
        "is a NumPy archive (.npz), not safetensors. Convert it once with Python:\n"
        "  import numpy, safetensors.numpy; safetensors.numpy.save_file(dict(numpy.load({})), {})",
        literal(path), literal(converted_name(path)));
  return fmt::format("is a zip archive, as torch.save writes (.pth, .pt or .bin), not safetensors. {}",
                     conversion(path));
}

bool begins_like_html(std::string_view text) {
  const std::size_t at = text.find_first_not_of(" \t\r\n\xef\xbb\xbf");
  if (at == std::string_view::npos) return false;
  std::string lower;
  for (const char c : text.substr(at, 16))
    lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  constexpr std::array kTags = {"<!doctype"sv, "<html"sv, "<head"sv, "<?xml"sv};
  return std::any_of(kTags.begin(), kTags.end(),
                     [&](std::string_view tag) { return lower.starts_with(tag); });
}

/// An object or list of JSON. No header length looks like it: that would have zeros in its upper bytes.
bool begins_like_json(std::string_view text) {
  if (text.empty() || (text[0] != '{' && text[0] != '[')) return false;
  const std::size_t at = text.find_first_not_of(" \t\r\n", 1);
  return at != std::string_view::npos && "\"{[]}"sv.find(text[at]) != std::string_view::npos;
}

}  // namespace

std::string describe_foreign_file(std::span<const std::byte> first, const std::string& path) {
  const std::string_view text(reinterpret_cast<const char*>(first.data()),
                              std::min<std::size_t>(first.size(), 128));
  if (text.starts_with("PK\x03\x04"sv)) return describe_zip(text, path);
  const bool is_pickle = text.size() > 2 && text[0] == '\x80' && text[1] >= 2 && text[1] <= 5;
  if (is_pickle)
    return fmt::format(
        "is a Python pickle, as old versions of torch.save write (.pth, .pt or .bin), not "
        "safetensors. {}",
        conversion(path));
  for (const Kind& kind : kKinds)
    if (text.starts_with(kind.magic)) return fmt::format("is {}", kind.description);
  if (begins_like_html(text))
    return "is an HTML page (of a login or an error, perhaps), not safetensors. Download the weights "
           "themselves";
  if (begins_like_json(text))
    return "is JSON text (an index of weights in several files, or a server's error message), not "
           "safetensors. "
           "Give the file with the weights themselves";
  return "";
}

}  // namespace cosub
