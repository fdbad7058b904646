// When the bad samples of a training set are too many to go on. Plain arithmetic, owned and called by the
// trainer, on every rank alike: what it is told is what all ranks know after a step.
#pragma once

#include <cstdint>
#include <string>

namespace cosub::data {

/// How many samples of a set of `size` may be bad: that share of it, exactly.
std::int64_t allowed_bad(double max_share, std::int64_t size);

/// Two rules, of which the first one alone decides in the end:
///  - the distinct bad samples are more than the share allows of the whole set, or
///  - those that turned up in the window of 100,000 samples that is being read are more than a set within the
///    share can bring forth by chance, so that a set of millions need not be read to its end to know. With m
///    for the share of the samples read in the window, and samples that come in blocks of b (1 when shuffled
///    singly): more than m + 6 sqrt(b m) + 20 b. At any one step that happens to a set within the share with
///    a probability below 2e-8 (Bernstein's inequality, which holds without replacement too: Hoeffding 1963).
class BadShare {
 public:
  struct Options {
    double max_share = 0;
    std::int64_t size = 0;        // of the set
    double samples_per_step = 1;  // that are read, of the epoch's order
    std::int64_t block_size = 1;  // neighbours in the set that stay neighbours in the order
    std::int64_t first_step = 0;  // of this run: windows begin here, or at a multiple of their length
  };
  explicit BadShare(const Options& options);

  /// After step `step`, which brought `num_new` bad samples that were not known before, `num_bad` in all. Why
  /// the run has to stop; empty when it goes on. Steps ascend; those without news may be left out.
  std::string judge(std::int64_t step, std::int64_t num_new, std::int64_t num_bad);

 private:
  const Options options_;
  const std::int64_t allowed_, window_steps_;
  std::int64_t window_begin_, in_window_ = 0;
};

}  // namespace cosub::data
