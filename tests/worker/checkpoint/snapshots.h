// Small checkpoints whose every value follows from their step, so that a mixture of two is noticed.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

#include "worker/checkpoint/checkpoint.h"

namespace cosub::checkpoint {

inline Snapshot snapshot_of(std::int64_t step, std::int64_t width = 8) {
  const auto value = static_cast<double>(step);
  Snapshot snapshot;
  snapshot.step = step;
  snapshot.files["model"] = {
      {"head.weight", at::arange(3 * width, at::kFloat).reshape({3, width}).add_(value)},
      {"bn.num_batches_tracked", at::full({}, step, at::kLong)}};
  snapshot.files["ema"] = {{"head.weight", at::full({3, width}, value / 3, at::kFloat)}};
  snapshot.files["optimizer-0"] = {{"exp_avg.head.weight", at::full({3, width}, -value, at::kFloat)}};
  snapshot.state = {{"step", step}, {"identity", "0123456789abcdef"}, {"rows", {1, 2, step}}};
  return snapshot;
}

inline void expect_is_step(const Snapshot& got, std::int64_t step, std::int64_t width = 8) {
  const Snapshot expected = snapshot_of(step, width);
  EXPECT_EQ(got.step, step);
  EXPECT_EQ(got.state, expected.state);
  ASSERT_EQ(got.files.size(), expected.files.size());
  for (const auto& [file, tensors] : expected.files) {
    ASSERT_TRUE(got.files.contains(file)) << file;
    ASSERT_EQ(got.files.at(file).size(), tensors.size()) << file;
    for (const auto& [name, tensor] : tensors) {
      ASSERT_TRUE(got.files.at(file).contains(name)) << name;
      EXPECT_TRUE(got.files.at(file).at(name).equal(tensor)) << file << " " << name;
    }
  }
}

/// Names in STAGE/checkpoints, those with a dot in front too.
inline std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

}  // namespace cosub::checkpoint
