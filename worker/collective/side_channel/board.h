// Where every rank of a job is, as the side channel knows it, and what that says about a wait that does not
// end. Plain values and pure functions: ages are relative to the moment the board was asked for, so that no
// clocks of two hosts are compared.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cosub::collective {

enum class Phase : std::uint8_t {
  kStart,  // before the first step
  kLoad,
  kForward,
  kBackward,
  kExchange,
  kUpdate,
  kBetween,  // two steps
  kCheckpoint,
  kEvaluate,
};
inline constexpr std::uint8_t kNumPhases = 9;
std::string_view name_of(Phase phase);

struct Place {
  std::int64_t step = 0;  // steps done, which is the index of the one under way
  Phase phase = Phase::kStart;
  std::int64_t microbatch = -1;  // index in the step; kEvaluate: percent of the rank's share; -1: none
  std::int64_t bucket = -1;      // being exchanged, maybe while a later one is computed; -1: none
  std::int64_t num_buckets = 0;
  /// How many points that every rank passes, in the same order, lie behind it: whoever has fewer is behind.
  std::int64_t milestone = 0;
  bool operator==(const Place&) const = default;
};

/// "step 41, exchange, bucket 3 of 9"
std::string describe(const Place& place);

struct RankState {
  std::string host = {};
  bool heard = false;      // ever
  bool connected = false;  // holds a connection to rank 0
  Place place = {};
  std::chrono::milliseconds silence{0};  // since it was last heard (or, never heard, since the start)
  std::chrono::milliseconds stay{0};     // how long it has been in this place
};

struct Board {
  bool available = false;                  // there is a side channel
  std::chrono::milliseconds period{1000};  // every rank is heard about this often
  std::chrono::milliseconds age{0};        // since rank 0 sent it; 0 on rank 0
  std::vector<RankState> ranks = {};
};

/// Longer than this without a word, and a rank counts as silent: a word travels in two hops, each up to a
/// period late.
constexpr std::chrono::milliseconds silence_limit(std::chrono::milliseconds period) {
  return 4 * period;
}

struct Diagnosis {
  std::vector<std::int64_t> ranks;  // whom it names; empty: nobody
  bool silent = false;              // because they are silent, not behind
  std::string text;                 // "rank 2 of 3 on host7 was last heard 12 s ago, at step 41, exchange"
};

/// Who keeps the others waiting, as `own_rank` sees it: who is silent; else who is behind; else where
/// everybody is.
Diagnosis diagnose(const Board& board, std::int64_t own_rank);

}  // namespace cosub::collective
