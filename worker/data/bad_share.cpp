#include "worker/data/bad_share.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace cosub::data {
namespace {

constexpr double kWindowSamples = 100'000;

/// The most bad ones of `samples` that a set within the share brings forth by chance.
double most_by_chance(double max_share, double samples, double block_size) {
  const double mean = max_share * samples;
  return mean + 6 * std::sqrt(block_size * mean) + 20 * block_size;
}

}  // namespace

std::int64_t allowed_bad(double max_share, std::int64_t size) {
  // 0.29 * 100 is a little less than 29: neither the share nor the product is exact.
  constexpr double kRoundings = 1 + 2 * std::numeric_limits<double>::epsilon();
  return static_cast<std::int64_t>(std::floor(max_share * static_cast<double>(size) * kRoundings));
}

BadShare::BadShare(const Options& options)
    : options_(options),
      allowed_(allowed_bad(options.max_share, options.size)),
      window_steps_(
          std::max<std::int64_t>(1, static_cast<std::int64_t>(kWindowSamples / options.samples_per_step))),
      window_begin_(options.first_step) {}

std::string BadShare::judge(std::int64_t step, std::int64_t num_new, std::int64_t num_bad) {
  const double percent = 100 * options_.max_share;
  if (num_bad > allowed_) {
    return fmt::format(
        "{} of the {} training samples are bad ({:.2f} %); data.max_bad_share allows {} of them ({:.2f} %)",
        num_bad, options_.size, 100.0 * static_cast<double>(num_bad) / static_cast<double>(options_.size),
        allowed_, percent);
  }
  if (const std::int64_t begin = step / window_steps_ * window_steps_; begin > window_begin_) {
    window_begin_ = begin;
    in_window_ = 0;
  }
  in_window_ += num_new;
  // Each bad one had the next of the order read in its place.
  const double samples = static_cast<double>(step + 1 - window_begin_) * options_.samples_per_step +
                         static_cast<double>(in_window_);
  const double most = most_by_chance(options_.max_share, samples, static_cast<double>(options_.block_size));
  if (static_cast<double>(in_window_) <= most) return {};
  return fmt::format(
      "{} of {:.0f} samples read since step {} turned out to be bad ({:.2f} %), which is no chance any more "
      "where data.max_bad_share allows {:.2f} % of the set",
      in_window_, samples, window_begin_, 100.0 * static_cast<double>(in_window_) / samples, percent);
}

}  // namespace cosub::data
