#include "launcher/commands/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "common/terminal.h"
#include "common/text.h"

namespace cosub::commands {

using protocol::PipelineView;
using protocol::StageView;
constexpr auto kPlainInterval = std::chrono::seconds(10);
constexpr double kSlowData = 0.1;  // share of the time spent waiting for data from which on it is shown

namespace {

std::string percent(double share) {
  return fmt::format("{:.2f} %", 100 * share);
}

double result(const StageView& stage, const std::string& name, double otherwise) {
  const auto found = stage.results.find(name);
  return found == stage.results.end() ? otherwise : found->second;
}

bool runs_now(const StageView& stage) {
  return stage.state == "running" || stage.state == "stopping";
}

bool has_ended(const StageView& stage) {
  return stage.state == "succeeded" || stage.state == "failed" || stage.state == "stopped";
}

std::string fitting_line(const StageView& stage, std::size_t columns) {
  return fitting(line_of_progress(stage, false), line_of_progress(stage, true), columns);
}

}  // namespace

std::string line_of_progress(const StageView& stage, bool colour) {
  const auto& p = stage.progress;
  const double share =
      p.total_steps > 0 ? static_cast<double>(p.step) / static_cast<double>(p.total_steps) : 0.0;
  std::string line =
      fmt::format("{:<12} {} {:>3.0f} %", stage.name, progress_bar(share, colour), 100 * share);
  if (p.phase != "training") {
    line += fmt::format("  {}", p.phase);
    if (p.phase == "evaluating" && p.images_per_second > 0)
      line += fmt::format("  {} img/s", format_count(p.images_per_second));
    return line;
  }
  line += fmt::format("  step {}/{}", p.step, p.total_steps);
  if (p.images_per_second <= 0) return line;  // the first log interval is not over yet
  line += fmt::format("  loss {:.4f}  top-1 {:.1f} %  {} img/s", p.loss, 100 * p.top1,
                      format_count(std::round(p.images_per_second)));
  if (p.val_top1 >= 0) line += fmt::format("  val {:.1f} %", 100 * p.val_top1);
  if (p.seconds_left >= 0) line += fmt::format("  {} left", format_duration(p.seconds_left));
  if (p.data_wait >= kSlowData)
    line += painted(fmt::format("  waits for data {:.0f} %", 100 * p.data_wait), "33", colour);
  if (p.skipped_steps > 0) line += painted(fmt::format("  {} steps left out", p.skipped_steps), "33", colour);
  if (p.bad_samples > 0) line += painted(fmt::format("  {} bad images", p.bad_samples), "33", colour);
  return line;
}

std::string line_of_end(const StageView& stage, bool colour) {
  if (stage.state == "succeeded") {
    std::string text =
        fmt::format("{} {:<10} {}", painted("✓", "32", colour), stage.name, format_duration(stage.seconds));
    if (stage.task == "classify") text += fmt::format(", {} steps", stage.progress.total_steps);
    if (const double skipped = result(stage, "skipped_steps", 0); skipped > 0)
      text += painted(fmt::format(", {:.0f} of them left out (not finite)", skipped), "33", colour);
    const double top1 = result(stage, "top1", -1);
    if (top1 >= 0) text += fmt::format(", top-1 {}", percent(top1));
    if (!stage.export_path.empty()) text += fmt::format(", {}", stage.export_path);
    if (stage.attempts.size() > 1) text += fmt::format(", {} attempts", stage.attempts.size());
    return text;
  }
  if (stage.state == "stopped") {
    return fmt::format("{} {:<10} stopped at step {}: {}", painted("•", "33", colour), stage.name,
                       stage.progress.step, stage.reason);
  }
  return fmt::format("{} {:<10} {}", painted("✗", "31", colour), stage.name, stage.reason);
}

std::string final_report(const PipelineView& pipeline, bool colour) {
  std::vector<std::vector<std::string>> rows = {
      {"stage", "state", "top-1 %", "top-5 %", "loss", "time", "attempts"}};
  const auto number = [](double value, double scale, int digits) {
    return value < 0 ? std::string() : fmt::format("{:.{}f}", value * scale, digits);
  };
  for (const StageView& stage : pipeline.stages) {
    rows.push_back({stage.name, stage.state, number(result(stage, "top1", -1), 100, 2),
                    number(result(stage, "top5", -1), 100, 2), number(result(stage, "loss", -1), 1, 4),
                    stage.attempts.empty() ? "" : format_duration(stage.seconds),
                    std::to_string(stage.attempts.size())});
    constexpr std::string_view kPrefix = "submodels.", kSuffix = ".top1";
    for (const auto& [key, value] : stage.results) {
      if (!key.starts_with(kPrefix) || !key.ends_with(kSuffix)) continue;
      const std::string name = key.substr(kPrefix.size(), key.size() - kPrefix.size() - kSuffix.size());
      const std::string base = std::string(kPrefix) + name;
      rows.push_back({"  submodel " + name, "", number(value, 100, 2),
                      number(result(stage, base + ".top5", -1), 100, 2),
                      number(result(stage, base + ".loss", -1), 1, 4), "", ""});
    }
  }
  std::string text = "\n" + table(rows) + "\n";
  for (const StageView& stage : pipeline.stages) {
    if (stage.export_path.empty()) continue;
    text += fmt::format("model    {}\n", painted(stage.export_path, "1", colour));
    text += fmt::format("         timm.create_model('local-dir:{}', pretrained=True)\n", stage.export_path);
  }
  text += fmt::format("results  {}/results.json\n", pipeline.folder);
  text += fmt::format("closer   cosub status {} --attempts\n", pipeline.name);
  return text;
}

ProgressPrinter::ProgressPrinter(Style style) : style_(style) {}

ProgressPrinter::~ProgressPrinter() {
  erase_live_lines();
}

void ProgressPrinter::erase_live_lines() {
  for (; live_lines_ > 0; --live_lines_) std::fputs("\033[A\r\033[2K", stdout);
  std::fflush(stdout);
}

void ProgressPrinter::print_line(const std::string& text) {
  if (style_ == Style::kSilent) return;
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

void ProgressPrinter::note(const std::string& text) {
  erase_live_lines();
  print_line(text);
}

void ProgressPrinter::show_changes(const StageView& stage, Seen& seen) {
  const bool colour = style_ == Style::kLive;
  if (stage.attempts.size() > seen.attempts && runs_now(stage)) {
    const auto& attempt = stage.attempts.back();
    print_line(attempt.number <= 1 ? fmt::format("{} {}", painted("▸", "36", colour), stage.name)
                                   : fmt::format("{} {} again, attempt {}", painted("▸", "36", colour),
                                                 stage.name, attempt.number));
    seen.attempts = stage.attempts.size();
  }
  if (stage.state != seen.state || (stage.state == "backoff" && stage.reason != seen.reason)) {
    if (stage.state == "backoff") {
      print_line(fmt::format("{} {}: {}", painted("!", "33", colour), stage.name, stage.reason));
    }
    if (has_ended(stage)) print_line(line_of_end(stage, colour));
  }
  std::string metrics;
  for (const auto& address : stage.metrics_addresses) metrics += fmt::format(" http://{}/metrics", address);
  if (!metrics.empty() && metrics != seen.metrics && runs_now(stage)) {
    print_line(painted(fmt::format("  metrics{}", metrics), "2", colour));
    seen.metrics = metrics;
  }
  seen.state = stage.state;
  seen.reason = stage.reason;
}

void ProgressPrinter::show(const PipelineView& pipeline) {
  erase_live_lines();
  for (const StageView& stage : pipeline.stages) show_changes(stage, seen_[stage.name]);
  const auto now = std::chrono::steady_clock::now();
  for (const StageView& stage : pipeline.stages) {
    if (!runs_now(stage)) continue;
    if (style_ == Style::kLive) {
      print_line(fitting_line(stage, terminal_columns(STDOUT_FILENO)));
      ++live_lines_;
    } else if (now - last_plain_[stage.name] >= kPlainInterval) {
      last_plain_[stage.name] = now;
      print_line(line_of_progress(stage, false));
    }
  }
}

}  // namespace cosub::commands
