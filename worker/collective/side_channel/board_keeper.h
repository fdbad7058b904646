// The two ends of the side channel without their sockets: rank 0 notes what it hears of every rank; the
// others keep the last board that rank 0 sent. Time is given by the caller; one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "worker/collective/side_channel/board.h"

namespace cosub::collective {

using SideTime = std::chrono::steady_clock::time_point;

/// Where a rank says it is, and for how long by its own clock.
struct PlaceReport {
  Place place = {};
  std::chrono::milliseconds stay{0};
};

/// Monotonic time without the spells in which this process itself stood still (stopped, or starved of its
/// core), so that one who wakes up does not accuse the others. Needs a tick every period.
class AwakeClock {
 public:
  AwakeClock(std::chrono::milliseconds period, SideTime now) : longest_(2 * period), last_(now) {}
  void tick(SideTime now);
  std::chrono::milliseconds at(SideTime now) const;  // since the construction

 private:
  SideTime::duration longest_;
  SideTime last_;
  SideTime::duration awake_{0};
};

/// Remembers for a while who was silent: Open MPI wakes a stopped process before it kills it, so that, when
/// one survivor ends the job, another would find that everybody answers.
class SilenceMemory {
 public:
  void note(const Board& board, std::int64_t own_rank, SideTime now);  // every period
  /// diagnose() of the board, or what was found within the last silence_limit where nobody is silent now.
  Diagnosis diagnosis(const Board& board, std::int64_t own_rank, SideTime now) const;

 private:
  Diagnosis last_;
  SideTime noted_at_{};
};

/// Rank 0's.
class BoardKeeper {
 public:
  BoardKeeper(std::vector<std::string> hosts, std::chrono::milliseconds period, SideTime now);
  void heard(std::int64_t rank, const PlaceReport& report, SideTime now);
  void connected(std::int64_t rank, bool is_connected);
  /// Every period. Returns what has changed since the last tick, for the log: "rank 2 of 3 on host7 was last
  /// heard 4.1 s ago, at ..." and "rank 2 of 3 on host7 is heard again".
  std::vector<std::string> tick(SideTime now);
  Board board(SideTime now) const;

 private:
  struct Entry {
    PlaceReport report;
    std::chrono::milliseconds heard_at{0};  // by clock_
    bool heard = false, connected = false, silent = false;
  };

  std::vector<std::string> hosts_;
  std::chrono::milliseconds period_;
  AwakeClock clock_;
  std::vector<Entry> entries_;
};

/// Every other rank's.
class RemoteBoard {
 public:
  RemoteBoard(std::vector<std::string> hosts, std::chrono::milliseconds period, SideTime now);
  /// `ranks`: one entry for each rank; their hosts are filled in here.
  void received(std::vector<RankState> ranks, SideTime now);
  /// As BoardKeeper's, about rank 0.
  std::vector<std::string> tick(SideTime now);
  Board board(SideTime now) const;

 private:
  AwakeClock clock_;
  Board last_;
  std::chrono::milliseconds received_at_{0};  // by clock_
  bool silent_ = false;
};

}  // namespace cosub::collective
