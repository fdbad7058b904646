// STAGE/metrics.csv: one row per log interval, written by rank 0. On a resume rows past the checkpoint's step
// are cut off, because those steps are done again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>

namespace cosub::train {

struct MetricsRow {
  std::int64_t step = 0;  // steps done
  double epoch = 0;
  double loss = 0;  // means over the interval
  double top1 = 0;
  double learning_rate = 0;  // of the last step
  double gradient_norm = 0;
  double images_per_second = 0;
  double data_wait = 0;          // share of the interval's time spent waiting for data
  std::int64_t bad_samples = 0;  // of the whole stage so far
  double val_top1 = -1;          // of the newest validation; empty in the file while there is none
  std::int64_t skipped_steps =
      0;  // of the whole stage so far: left out, not finite. Last: older files lack it
};

class MetricsCsv {
 public:
  /// Keeps the rows with step <= `keep_until`, atomically, and appends from there. IoError when it cannot.
  MetricsCsv(std::filesystem::path file, std::int64_t keep_until);
  void append(const MetricsRow& row);

 private:
  std::filesystem::path file_;
  std::ofstream out_;
};

}  // namespace cosub::train
