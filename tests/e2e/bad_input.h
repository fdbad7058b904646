// What the tests of bad input share: a tiny pipeline over a tiny set, ways to spoil it, and what has to hold
// afterwards: one message, the right exit code, nothing left running.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "common/exit_code.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/whole_system.h"

namespace cosub::testing {

/// `text` with its only occurrence of `from` replaced; std::invalid_argument when there is not exactly one.
std::string replaced(const std::string& text, const std::string& from, const std::string& to);

/// Two stages (pretrain, export), one rank, six steps with a checkpoint every second one, called "tiny". Data
/// are in data/ beside the file. `channels` of the network's four stages decide how large a checkpoint is.
std::string tiny_pipeline(const std::filesystem::path& runs, int channels = 8);

class BadInput : public ::testing::Test {
 protected:
  BadInput();
  ~BadInput() override;  // fails the test when a process of it still runs

  std::filesystem::path data(const std::string& name) const { return folder_ / ("data/" + name); }
  std::filesystem::path runs() const { return folder_ / "runs"; }
  std::filesystem::path run_folder() const { return runs() / "tiny"; }

  /// Writes FOLDER/tiny.yaml, the file that run() runs.
  void write_pipeline(const std::string& text) const;
  ProgramResult run(const std::vector<std::string>& more = {}, const ProgramOptions& options = {}) const;

  const TemporaryFolder folder_;
};

/// The exit code, every one of the words, and at most one line that begins with "error:".
void expect_refusal(const ProgramResult& result, ExitCode code, const std::vector<std::string>& words);
void expect_success(const ProgramResult& result);

/// Flips a bit in the middle of a file. Twice on the same file mends it.
void flip_a_bit(const std::filesystem::path& file);

}  // namespace cosub::testing
