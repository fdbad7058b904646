#include "worker/collective/side_channel/board.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "worker/collective/wait_error.h"

namespace cosub::collective {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMostDescribed = 4;  // the rest is listed by number

std::string age_in_words(milliseconds age) {
  if (age < std::chrono::seconds(10)) return fmt::format("{:.1f} s", static_cast<double>(age.count()) / 1000);
  return fmt::format("{} s", age.count() / 1000);
}

bool in_microbatch(Phase phase) {
  return phase == Phase::kLoad || phase == Phase::kForward || phase == Phase::kBackward;
}

/// Later places compare greater.
auto position_of(const Place& place) {
  return std::pair(place.milestone, place.bucket);
}

bool waits_for_others(const Place& place) {
  return place.phase == Phase::kExchange || (place.phase == Phase::kEvaluate && place.microbatch >= 100);
}

class Witness {
 public:
  Witness(const Board& board, std::int64_t own_rank) : board_(board), own_rank_(own_rank) {}

  Diagnosis silent() const {
    std::vector<std::int64_t> found;
    const milliseconds limit = silence_limit(board_.period);
    const bool rank_0_is_silent = own_rank_ != 0 && board_.age > limit;
    if (rank_0_is_silent) found.push_back(0);
    for (std::int64_t r = rank_0_is_silent ? 1 : 0; r < size(); ++r) {
      // While rank 0 says nothing, the others' silence does not grow.
      const milliseconds silence = state(r).silence + (rank_0_is_silent ? milliseconds(0) : board_.age);
      if (r != own_rank_ && silence > limit) found.push_back(r);
    }
    std::stable_sort(found.begin(), found.end(),
                     [this](auto a, auto b) { return state(a).silence > state(b).silence; });
    Diagnosis diagnosis = told(found, [this](std::int64_t r) { return silence_of(r); });
    diagnosis.silent = !found.empty();
    return diagnosis;
  }

  Diagnosis behind() const {
    std::vector<std::int64_t> found;
    const auto less = [this](auto a, auto b) {
      return position_of(state(a).place) < position_of(state(b).place);
    };
    std::int64_t first = 0;
    for (std::int64_t r = 1; r < size(); ++r) first = less(first, r) ? r : first;
    for (std::int64_t r = 0; r < size(); ++r) {
      if (less(r, first)) found.push_back(r);
    }
    // Of those behind, who waits is not who is waited for.
    const auto working = [this](std::int64_t r) { return !waits_for_others(state(r).place); };
    if (std::any_of(found.begin(), found.end(), working)) {
      std::erase_if(found, [&](std::int64_t r) { return !working(r); });
    }
    std::stable_sort(found.begin(), found.end(), less);
    return told(found, [this](std::int64_t r) {
      return fmt::format("{} is behind: {}, since {}", name(r), describe(state(r).place),
                         age_in_words(state(r).stay + state(r).silence + board_.age));
    });
  }

  /// Everybody answers and nobody is behind: where they are is what can be said.
  Diagnosis everybody() const {
    std::vector<std::pair<std::string, std::vector<std::int64_t>>> groups;
    for (std::int64_t r = 0; r < size(); ++r) {
      const std::string place = describe(state(r).place);
      auto group = std::find_if(groups.begin(), groups.end(), [&](auto& one) { return one.first == place; });
      if (group == groups.end()) group = groups.insert(groups.end(), {place, {}});
      group->second.push_back(r);
    }
    if (groups.size() == 1) return {{}, false, "all ranks answer, and all are at " + groups[0].first};
    std::string text = "all ranks answer, and none is behind";
    for (std::size_t i = 0; i < std::min(groups.size(), kMostDescribed); ++i) {
      text += fmt::format("{} {} at {}", i == 0 ? ":" : ";", list_ranks(groups[i].second), groups[i].first);
    }
    return {{}, false, text};
  }

 private:
  std::int64_t size() const { return static_cast<std::int64_t>(board_.ranks.size()); }
  const RankState& state(std::int64_t r) const { return board_.ranks[static_cast<std::size_t>(r)]; }
  std::string name(std::int64_t r) const { return describe_rank(r, size(), state(r).host); }

  std::string silence_of(std::int64_t r) const {
    if (!state(r).heard) return name(r) + " was never heard on the side channel";
    const bool frozen = r != 0 && own_rank_ != 0 && board_.age > silence_limit(board_.period);
    return fmt::format("{} was last heard {} ago, at {}{}", name(r),
                       age_in_words(state(r).silence + (frozen ? milliseconds(0) : board_.age)),
                       describe(state(r).place), state(r).connected ? "" : " (its connection is closed)");
  }

  template <class Sentence>
  Diagnosis told(const std::vector<std::int64_t>& ranks, Sentence&& sentence) const {
    Diagnosis diagnosis{ranks, false, ""};
    for (std::size_t i = 0; i < std::min(ranks.size(), kMostDescribed); ++i) {
      diagnosis.text += (i == 0 ? "" : "; ") + sentence(ranks[i]);
    }
    if (ranks.size() > kMostDescribed) {
      const std::vector<std::int64_t> rest(ranks.begin() + kMostDescribed, ranks.end());
      diagnosis.text += "; so too " + list_ranks(rest);
    }
    return diagnosis;
  }

  const Board& board_;
  std::int64_t own_rank_;
};

}  // namespace

std::string_view name_of(Phase phase) {
  constexpr std::array<std::string_view, kNumPhases> kNames = {"start",         "load",       "forward",
                                                               "backward",      "exchange",   "update",
                                                               "between steps", "checkpoint", "evaluate"};
  return kNames.at(static_cast<std::size_t>(phase));
}

std::string describe(const Place& place) {
  std::string text = fmt::format("step {}, {}", place.step, name_of(place.phase));
  if (place.phase == Phase::kEvaluate && place.microbatch >= 0) {
    text += fmt::format(", {} % done", place.microbatch);
  }
  if (in_microbatch(place.phase) && place.microbatch >= 0) {
    text += fmt::format(", microbatch {}", place.microbatch);
  }
  if (place.bucket >= 0) text += fmt::format(", bucket {} of {}", place.bucket + 1, place.num_buckets);
  return text;
}

Diagnosis diagnose(const Board& board, std::int64_t own_rank) {
  if (!board.available) return {};
  const Witness witness(board, own_rank);
  Diagnosis found = witness.silent();
  if (found.ranks.empty()) found = witness.behind();
  return found.ranks.empty() ? witness.everybody() : found;
}

}  // namespace cosub::collective
