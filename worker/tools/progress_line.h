// How far a command is that goes through many images (or shards), how fast, how long it still takes: one live
// line on a terminal, elsewhere (a batch job's log) a line a minute.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace cosub::tools {

struct Progress {
  std::int64_t done = 0, of = 0;
  std::int64_t done_now = 0;    // of `done`, what this call did
  std::uint64_t bytes_now = 0;  // 0: not shown
  double seconds = 0;           // that this call has run
  std::string_view unit = "images";
};

enum class Bar { kNone, kPlain, kColour };

/// "pack  ━━━━━━━━━━━─────────────   46 %  4,210/9,152 images  812 images/s  1.2 GiB  0:06 left"
std::string line_of(const std::string& what, const Progress& progress, Bar bar);

/// On stderr. On a terminal at most ten times a second, and gone again with the object. Used by one thread at
/// a time.
class ProgressLine {
 public:
  /// `interval`: of the lines where stderr is no terminal.
  explicit ProgressLine(std::string what, std::chrono::milliseconds interval = std::chrono::minutes(1));
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  void show(Progress progress);  // `seconds` is filled in
  double seconds() const;        // since it was made

 private:
  std::string what_;
  bool is_terminal_;
  std::chrono::milliseconds interval_;
  std::chrono::steady_clock::time_point start_, shown_;
};

}  // namespace cosub::tools
