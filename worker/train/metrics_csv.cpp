#include "worker/train/metrics_csv.h"

#include <fmt/format.h>

#include <sstream>

#include "common/atomic_file.h"
#include "common/error.h"

namespace cosub::train {
namespace {

constexpr const char* kHeading =
    "step,epoch,loss,top1,learning_rate,gradient_norm,images_per_second,data_wait,bad_samples,val_top1,"
    "skipped_steps\n";

/// Whole lines only: a row cut short by a kill is dropped with the ones after the checkpoint.
std::string rows_until(const std::string& text, std::int64_t step) {
  std::string kept = kHeading;
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line) && !lines.eof()) {
    if (line.empty() || line[0] < '0' || line[0] > '9') continue;
    if (std::stoll(line) <= step) kept += line + "\n";
  }
  return kept;
}

}  // namespace

MetricsCsv::MetricsCsv(std::filesystem::path file, std::int64_t keep_until) : file_(std::move(file)) {
  std::string before = std::filesystem::exists(file_) ? read_file(file_) : "";
  write_file_atomically(file_, rows_until(before, keep_until));
  out_.open(file_, std::ios::app);
}

void MetricsCsv::append(const MetricsRow& row) {
  out_ << fmt::format("{},{:.4f},{:.6f},{:.6f},{:.6e},{:.6f},{:.1f},{:.4f},{},{},{}\n", row.step, row.epoch,
                      row.loss, row.top1, row.learning_rate, row.gradient_norm, row.images_per_second,
                      row.data_wait, row.bad_samples,
                      row.val_top1 < 0 ? "" : fmt::format("{:.6f}", row.val_top1), row.skipped_steps);
  out_.flush();
  if (!out_) throw IoError("cannot write " + file_.string() + ": is the disk full?");
}

}  // namespace cosub::train
