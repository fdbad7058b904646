// What safetensors::parse_header promises about any bytes whatever, as a check for fuzzers: independent of
// the parser, slow and plain.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/safetensors.h"

namespace cosub::testing {

/// A file's bytes from its header text and data.
inline std::string safetensors_file(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file + header + data;
}

inline safetensors::Header parse_safetensors(const std::string& file, const std::string& name) {
  return safetensors::parse_header(std::as_bytes(std::span(file)), file.size(), name);
}

/// "" or the promise that an accepted header breaks: sizes are those of shape and dtype, every byte of the
/// data belongs to exactly one tensor, none to what is outside.
inline std::string broken_promise(const safetensors::Header& header, std::uint64_t file_size) {
  if (header.data_offset_bytes > file_size) return "the data begin after the end";
  const std::uint64_t data_bytes = file_size - header.data_offset_bytes;
  std::set<std::pair<std::uint64_t, std::uint64_t>> pieces;
  for (const auto& [name, info] : header.tensors) {
    const bool empty = std::find(info.shape.begin(), info.shape.end(), 0) != info.shape.end();
    unsigned __int128 size = empty ? 0 : safetensors::size_of(info.dtype);
    for (const std::int64_t extent : info.shape) {
      if (extent < 0) return name + ": a negative extent";
      size *= static_cast<std::uint64_t>(extent);
      if (size > data_bytes) return name + ": larger than the file";
    }
    if (info.begin_bytes > info.end_bytes || info.end_bytes > data_bytes) return name + ": outside the file";
    if (size != info.end_bytes - info.begin_bytes) return name + ": size and shape differ";
    if (size > 0 && !pieces.emplace(info.begin_bytes, info.end_bytes).second)
      return name + ": twice the place";
  }
  std::uint64_t at = 0;
  for (const auto& [begin, end] : pieces) {
    if (begin != at) return fmt::format("hole or overlap at byte {}", at);
    at = end;
  }
  return at == data_bytes ? "" : "bytes that belong to no tensor";
}

/// The header as text again, by hand.
inline std::string header_text(const safetensors::Header& header) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [name, info] : header.tensors)
    json[name] = {{"shape", info.shape},
                  {"data_offsets", {info.begin_bytes, info.end_bytes}},
                  {"dtype", safetensors::name_of(info.dtype)}};
  if (!header.metadata.empty()) json["__metadata__"] = header.metadata;
  return json.dump();
}

/// Parses `file`; throws std::logic_error when a promise is broken. True when it was accepted. Refusals are
/// DataError that begin with the name and stay readable; acceptance depends on nothing past the header, and
/// the header written again reads the same.
inline bool check_safetensors(const std::string& file) {
  const std::string name = "some/folder/x.safetensors";
  const auto broken = [](const std::string& promise) { throw std::logic_error("broken: " + promise); };
  safetensors::Header header;
  try {
    header = parse_safetensors(file, name);
  } catch (const DataError& error) {
    const std::string message = error.what();
    if (!message.starts_with(name)) broken("no name in: " + message);
    if (message.size() > name.size() + 2000) broken("endless message: " + message);
    return false;
  }
  if (const std::string promise = broken_promise(header, file.size()); !promise.empty()) broken(promise);
  const auto same = [&](const safetensors::Header& other) {
    return other.tensors == header.tensors && other.metadata == header.metadata;
  };
  const auto head = std::as_bytes(std::span(file)).first(header.data_offset_bytes);
  if (!same(safetensors::parse_header(head, file.size(), name))) broken("depends on the data");
  const std::string data(file.size() - header.data_offset_bytes, '\0');
  if (!same(parse_safetensors(safetensors_file(header_text(header), data), name)))
    broken("reads differently when written again");
  return true;
}

}  // namespace cosub::testing
