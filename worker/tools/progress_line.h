// One live line on a terminal for a command that goes through many images: how far it is, how fast, how long
// it still takes. Off a terminal it prints nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace cosub::tools {

struct ImageProgress {
  std::int64_t done = 0, of = 0;
  std::int64_t done_now = 0;    // of `done`, what this call did
  std::uint64_t bytes_now = 0;  // 0: not shown
  double seconds = 0;           // that this call has run
};

/// "pack  ━━━━━━━━━━━─────────────   46 %  4,210/9,152 images  812 images/s  1.2 GiB  0:06 left"
std::string line_of(const std::string& what, const ImageProgress& progress, bool colour);

/// On stderr, at most ten times a second; gone again with the object. Used by one thread at a time.
class ProgressLine {
 public:
  explicit ProgressLine(std::string what);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  void show(ImageProgress progress);  // `seconds` is filled in
  double seconds() const;             // since it was made

 private:
  std::string what_;
  bool is_terminal_;
  std::chrono::steady_clock::time_point start_, shown_;
};

}  // namespace cosub::tools
