#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <ranges>
#include <span>

#include "common/atomic_file.h"
#include "common/descriptor.h"
#include "common/error.h"
#include "common/run_folder.h"
#include "common/text.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/checkpoint/folder_names.h"
#include "worker/checkpoint/manifest.h"
#include "worker/checkpoint/retry.h"

namespace cosub::checkpoint {
namespace {

namespace fs = std::filesystem;

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw io_error("remove", path, error.value());
}

void make_folder(const fs::path& path) {
  std::error_code error;
  if (fs::create_directories(path, error)) fsync_path(path.parent_path());
  if (error) throw io_error("create", path, error.value());
}

bool is_there(const fs::path& path) {
  std::error_code error;
  const bool there = fs::exists(fs::symlink_status(path, error));
  if (error && error != std::errc::no_such_file_or_directory) throw io_error("look at", path, error.value());
  return there;
}

/// Upper bound of what write() puts on disk: values, headers (a line of JSON a tensor), state, MANIFEST,
/// block sizes.
std::uint64_t needed_bytes(const Snapshot& snapshot, const std::string& state) {
  std::uint64_t bytes = state.size() + (64 << 10);
  for (const auto& [name, tensors] : snapshot.files) {
    bytes += 8 << 10;
    for (const auto& [tensor_name, tensor] : tensors) bytes += tensor.nbytes() + tensor_name.size() + 256;
  }
  return bytes;
}

std::string state_text(const Snapshot& snapshot) {
  return snapshot.state.dump(2) + "\n";
}

void check_space(const Snapshot& snapshot, const fs::path& folder) {
  const std::uint64_t needed = needed_bytes(snapshot, state_text(snapshot)), free = free_bytes(folder);
  if (needed <= free) return;
  throw IoError(fmt::format("no room for the checkpoint of step {}: it needs {} ({} bytes), {} ({} bytes) "
                            "are free in {}. Older "
                            "checkpoints are kept; free some space, then the stage goes on from there",
                            snapshot.step, format_bytes(static_cast<double>(needed)), needed,
                            format_bytes(static_cast<double>(free)), free, folder.string()),
                ENOSPC);
}

}  // namespace

Store::Store(fs::path stage_folder, std::int64_t attempt, std::int64_t keep)
    : stage_folder_(std::move(stage_folder)),
      checkpoints_(StageFolder{stage_folder_}.checkpoints()),
      attempt_(attempt),
      keep_(std::max<std::int64_t>(1, keep)) {}

fs::path Store::folder_of(std::int64_t step) const {
  return checkpoints_ / step_name(step);
}

std::vector<std::int64_t> Store::steps() const {
  std::vector<std::int64_t> steps;
  for (const std::string& name : list_names(checkpoints_)) {
    const auto parsed = parse_step_name(name);
    if (parsed && !parsed->damaged) steps.push_back(parsed->step);
  }
  std::ranges::sort(steps);
  return steps;
}

void Store::require_fence() const {
  const std::int64_t fence = read_fence({stage_folder_});
  if (fence <= attempt_) return;
  throw Error(
      fmt::format("{}: attempt {} may no longer write: attempt {} holds the stage. This one has to end",
                  stage_folder_.string(), attempt_, fence));
}

void Store::commit(const Snapshot& snapshot) {
  with_retries(fmt::format("checkpoint of step {}", snapshot.step), [&] { try_commit(snapshot); });
  whole_.insert(snapshot.step);
  try {
    prune(snapshot.step);
  } catch (const IoError& error) {
    spdlog::warn("{}: old checkpoints stay for now: {}", checkpoints_.string(), error.what());
  }
}

void Store::try_commit(const Snapshot& snapshot) {
  require_fence();
  make_folder(checkpoints_);
  remove_leftovers();
  const fs::path committed = folder_of(snapshot.step);
  if (is_there(committed)) {
    const std::string problem = verify(committed);
    // The rename may be one whose fsync failed a moment ago.
    if (problem.empty()) return fsync_path(checkpoints_);
    set_aside(committed, problem);
  }
  check_space(snapshot, checkpoints_);
  const fs::path temporary = checkpoints_ / temporary_name(snapshot.step, attempt_);
  bool renamed = false;
  try {
    write(snapshot, temporary);
    require_fence();
    renamed = rename_new(temporary, committed);
  } catch (...) {
    std::error_code ignored;  // the first error is the one to report; leftovers go at the next commit
    fs::remove_all(temporary, ignored);
    throw;
  }
  if (renamed) return;
  remove_tree(temporary);
  throw Error(fmt::format("{} appeared while attempt {} wrote it: somebody else writes into this stage",
                          committed.string(), attempt_));
}

void Store::write(const Snapshot& snapshot, const fs::path& temporary) const {
  make_folder(temporary);
  std::vector<std::string> files;
  for (const auto& [name, tensors] : snapshot.files) {
    files.push_back(name + ".safetensors");
    save_tensors(temporary / files.back(), tensors);
  }
  files.push_back(kStateFile);
  const std::string state = state_text(snapshot);
  write_new_file(temporary / kStateFile, std::as_bytes(std::span(state)));
  write_manifest(temporary, snapshot.step, attempt_, files);
}

void Store::remove_leftovers() const {
  for (const std::string& name : list_names(checkpoints_)) {
    if (is_leftover(name, attempt_)) remove_tree(checkpoints_ / name);
  }
}

void Store::set_aside(const fs::path& folder, const std::string& problem) const {
  const std::int64_t fence = read_fence({stage_folder_});
  if (fence > attempt_) {
    spdlog::error("checkpoint {} is damaged: {} (left there: attempt {} holds the stage)", folder.string(),
                  problem, fence);
    return;
  }
  for (int k = 1;; ++k) {
    const fs::path aside = fmt::format("{}.damaged-{}", folder.string(), k);
    if (!rename_new(folder, aside)) continue;
    spdlog::error("checkpoint {} is damaged: {}. Set aside as {}", folder.string(), problem,
                  aside.filename().string());
    return;
  }
}

bool Store::is_whole(std::int64_t step, std::string& problem) {
  if (whole_.contains(step)) return true;
  problem = with_retries("verify " + step_name(step), [&] { return verify(folder_of(step)); });
  if (problem.empty()) whole_.insert(step);
  return problem.empty();
}

void Store::prune(std::int64_t committed_step) {
  std::int64_t num_whole = 0;
  const std::vector<std::int64_t> all = steps();
  for (const std::int64_t step : all | std::views::reverse) {
    if (step > committed_step) continue;
    std::string problem;
    if (!is_whole(step, problem)) {
      set_aside(folder_of(step), problem);
      continue;
    }
    if (++num_whole <= keep_) continue;
    require_fence();
    // Under another name first, so that being killed half-way leaves no half checkpoint under a good one.
    const fs::path pruned = checkpoints_ / pruned_name(step);
    if (rename_new(folder_of(step), pruned)) remove_tree(pruned);
    whole_.erase(step);
  }
}

std::optional<Snapshot> Store::load_newest() {
  std::vector<std::string> problems;
  const std::vector<std::int64_t> all = steps();
  for (const std::int64_t step : all | std::views::reverse) {
    const fs::path folder = folder_of(step);
    try {
      Snapshot snapshot = with_retries("read " + folder.string(), [&] { return read(folder); });
      whole_.insert(step);
      return snapshot;
    } catch (const DataError& error) {
      problems.emplace_back(error.what());
      set_aside(folder, error.what());
    }
  }
  for (const std::string& name : list_names(checkpoints_)) {
    const auto parsed = parse_step_name(name);
    // Those set aside just now are in the list already, under the name they had.
    if (!parsed || !parsed->damaged || std::ranges::find(all, parsed->step) != all.end()) continue;
    const std::string problem = verify(checkpoints_ / name);
    problems.push_back(fmt::format("{}: {}", (checkpoints_ / name).string(),
                                   problem.empty() ? "whole; rename it back to use it" : problem));
  }
  if (problems.empty()) return std::nullopt;
  throw DataError(fmt::format(
      "{}: there are checkpoints, but none is whole:\n  {}\nPut a whole copy back as step-NUMBER, or remove "
      "this folder to start the stage from its beginning",
      checkpoints_.string(), fmt::join(problems, "\n  ")));
}

}  // namespace cosub::checkpoint
