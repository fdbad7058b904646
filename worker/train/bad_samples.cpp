#include "worker/train/bad_samples.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/atomic_file.h"
#include "common/error.h"

namespace cosub::train {
namespace {

constexpr const char* kHeading = "sample\tstep\treason\n";

/// A reason may quote bytes of a file.
std::string one_line(std::string text) {
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < ' ' || c == 0x7f; }, ' ');
  return text;
}

std::string to_text(const std::vector<data::BadSample>& samples) {
  nlohmann::json json = nlohmann::json::array();
  for (const data::BadSample& sample : samples) json.push_back({sample.index, sample.reason, sample.cause});
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

BadSamples::BadSamples(collective::Communicator& communicator, std::filesystem::path file)
    : communicator_(communicator), file_(std::move(file)) {}

void BadSamples::restore(const std::set<std::int64_t>& known) {
  known_ = known;
  if (communicator_.rank() != 0 || !std::filesystem::exists(file_)) return;
  std::string kept = kHeading, line;
  std::istringstream lines(read_file(file_));
  while (std::getline(lines, line) && !lines.eof()) {
    if (line.empty() || line[0] < '0' || line[0] > '9') continue;
    if (known_.contains(std::stoll(line))) kept += line + "\n";
  }
  write_file_atomically(file_, kept);
}

void BadSamples::keep_new(std::vector<data::BadSample>& bad) {
  std::vector<data::BadSample> fresh;
  for (data::BadSample& sample : bad) {
    const auto is_same = [&](const data::BadSample& other) { return other.index == sample.index; };
    if (known_.contains(sample.index) || std::ranges::any_of(found_, is_same)) continue;
    found_.push_back(sample);
    fresh.push_back(std::move(sample));
  }
  bad = std::move(fresh);
}

std::int64_t BadSamples::exchange(std::int64_t step) {
  std::int64_t num_new = 0;
  for (const std::string& text : communicator_.all_gather_text(
           to_text(std::exchange(found_, {})), fmt::format("step {}, names of bad samples", step))) {
    for (const nlohmann::json& entry : nlohmann::json::parse(text)) {
      const data::BadSample sample{entry[0].get<std::int64_t>(), entry[1].get<std::string>(),
                                   entry[2].get<std::string>()};
      if (!known_.insert(sample.index).second) continue;
      ++num_new;
      last_reason_ = sample.reason;
      if (communicator_.rank() == 0) list(step, sample);
    }
  }
  return num_new;
}

void BadSamples::list(std::int64_t step, const data::BadSample& sample) {
  if (sample.cause.empty()) {
    spdlog::warn("step {}: bad sample replaced: {}", step, sample.reason);
  } else if (causes_.insert(sample.cause).second) {  // of what may be thousands
    spdlog::warn("step {}: bad samples replaced, from now on without a line each: {}", step, sample.cause);
  }
  const bool is_first = !std::filesystem::exists(file_);
  std::ofstream out(file_, std::ios::app);
  if (is_first) out << kHeading;
  out << fmt::format("{}\t{}\t{}\n", sample.index, step, one_line(sample.reason)) << std::flush;
  if (!out) throw IoError("cannot write " + file_.string() + ": is the disk full?");
}

}  // namespace cosub::train
