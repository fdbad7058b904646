// How a run looks on a terminal: one live line for what runs now, a finished line per stage above it, and a
// table at the end. Off a terminal: the same as plain lines, one per change and per interval. The line_*
// functions are pure.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "common/protocol.h"

namespace cosub::commands {

/// "pretrain  ━━━━━━━━━━━──────────  52 %  step 487/936  loss 0.412  top-1 86.1 %  4,210 img/s  0:48 left"
std::string line_of_progress(const protocol::StageView& stage, bool colour);
/// "✓ pretrain  936 steps in 3:05, top-1 88.70 %" or what went wrong.
std::string line_of_end(const protocol::StageView& stage, bool colour);
/// The table of results with what lies where and what to try next.
std::string final_report(const protocol::PipelineView& pipeline, bool colour);

enum class Style { kLive, kPlain, kSilent };  // a terminal, not a terminal, --json

/// Prints what changed since the last view. One per `run` or `watch`; used by one thread.
class ProgressPrinter {
 public:
  explicit ProgressPrinter(Style style);
  ~ProgressPrinter();  // leaves the cursor on a fresh line
  void show(const protocol::PipelineView& pipeline);
  /// A line of our own, above the live line.
  void note(const std::string& text);

 private:
  struct Seen {
    std::string state, reason, metrics;
    std::size_t attempts = 0;
  };
  void print_line(const std::string& text);
  void show_changes(const protocol::StageView& stage, Seen& seen);
  void erase_live_lines();

  Style style_;
  int live_lines_ = 0;
  std::map<std::string, Seen> seen_;
  std::map<std::string, std::chrono::steady_clock::time_point> last_plain_;
};

}  // namespace cosub::commands
