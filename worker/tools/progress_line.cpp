#include "worker/tools/progress_line.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "common/terminal.h"
#include "common/text.h"

namespace cosub::tools {
namespace {

constexpr std::chrono::milliseconds kLiveInterval{100};

}  // namespace

std::string line_of(const std::string& what, const Progress& progress, Bar bar) {
  const double share =
      progress.of > 0 ? static_cast<double>(progress.done) / static_cast<double>(progress.of) : 0.0;
  const std::string drawn = bar == Bar::kNone ? "" : progress_bar(share, bar == Bar::kColour) + " ";
  std::string line = fmt::format("{}  {}{:>3.0f} %  {}/{} {}", what, drawn, std::floor(100 * share),
                                 format_count(progress.done), format_count(progress.of), progress.unit);
  if (progress.done_now == 0 || progress.seconds <= 0) return line;
  const double rate = static_cast<double>(progress.done_now) / progress.seconds;
  line += fmt::format("  {} {}/s", rate < 10 ? fmt::format("{:.1f}", rate) : format_count(std::round(rate)),
                      progress.unit);
  if (progress.bytes_now > 0)
    line += fmt::format("  {}", format_bytes(static_cast<double>(progress.bytes_now)));
  return line +
         fmt::format("  {} left", format_duration(static_cast<double>(progress.of - progress.done) / rate));
}

ProgressLine::ProgressLine(std::string what, std::chrono::milliseconds interval)
    : what_(std::move(what)),
      is_terminal_(::isatty(STDERR_FILENO) != 0),
      interval_(is_terminal_ ? kLiveInterval : interval),
      start_(std::chrono::steady_clock::now()),
      shown_(start_) {}

ProgressLine::~ProgressLine() {
  if (is_terminal_) fmt::print(stderr, "\r\033[K");
}

double ProgressLine::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void ProgressLine::show(Progress progress) {
  const auto now = std::chrono::steady_clock::now();
  if (now - shown_ < interval_) return;
  shown_ = now;
  progress.seconds = seconds();
  if (!is_terminal_) {
    fmt::print(stderr, "{}\n", line_of(what_, progress, Bar::kNone));
    return;
  }
  fmt::print(stderr, "\r{}\033[K",
             fitting(line_of(what_, progress, Bar::kPlain), line_of(what_, progress, Bar::kColour),
                     terminal_columns(STDERR_FILENO)));
  std::fflush(stderr);
}

}  // namespace cosub::tools
