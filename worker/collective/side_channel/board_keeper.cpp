#include "worker/collective/side_channel/board_keeper.h"

#include <algorithm>

#include "worker/collective/wait_error.h"

namespace cosub::collective {

using std::chrono::milliseconds;

void AwakeClock::tick(SideTime now) {
  awake_ += std::min(now - last_, longest_);
  last_ = now;
}

milliseconds AwakeClock::at(SideTime now) const {
  return std::chrono::duration_cast<milliseconds>(awake_ + std::min(now - last_, longest_));
}

void SilenceMemory::note(const Board& board, std::int64_t own_rank, SideTime now) {
  Diagnosis found = diagnose(board, own_rank);
  if (!found.silent) return;
  last_ = std::move(found);
  noted_at_ = now;
}

Diagnosis SilenceMemory::diagnosis(const Board& board, std::int64_t own_rank, SideTime now) const {
  Diagnosis found = diagnose(board, own_rank);
  const bool is_recent = last_.silent && now - noted_at_ <= silence_limit(board.period);
  return !found.silent && is_recent ? last_ : found;
}

BoardKeeper::BoardKeeper(std::vector<std::string> hosts, milliseconds period, SideTime now)
    : hosts_(std::move(hosts)), period_(period), clock_(period, now), entries_(hosts_.size()) {
  entries_[0].connected = true;
}

void BoardKeeper::heard(std::int64_t rank, const PlaceReport& report, SideTime now) {
  Entry& entry = entries_.at(static_cast<std::size_t>(rank));
  entry.report = report;
  entry.heard_at = clock_.at(now);
  entry.heard = true;
}

void BoardKeeper::connected(std::int64_t rank, bool is_connected) {
  entries_.at(static_cast<std::size_t>(rank)).connected = is_connected;
}

std::vector<std::string> BoardKeeper::tick(SideTime now) {
  clock_.tick(now);
  std::vector<std::string> news;
  const milliseconds time = clock_.at(now);
  std::vector<std::int64_t> silent;
  for (std::size_t r = 1; r < entries_.size(); ++r) {
    Entry& entry = entries_[r];
    const bool is_silent = time - entry.heard_at > silence_limit(period_);
    if (is_silent && !entry.silent) silent.push_back(static_cast<std::int64_t>(r));
    if (!is_silent && entry.silent) {
      news.push_back(
          describe_rank(static_cast<std::int64_t>(r), static_cast<std::int64_t>(entries_.size()), hosts_[r]) +
          " is heard again");
    }
    entry.silent = is_silent;
  }
  if (!silent.empty()) news.push_back(diagnose(board(now), 0).text);
  return news;
}

Board BoardKeeper::board(SideTime now) const {
  Board board{.available = true, .period = period_, .age = milliseconds(0), .ranks = {}};
  for (std::size_t r = 0; r < entries_.size(); ++r) {
    const Entry& entry = entries_[r];
    board.ranks.push_back({.host = hosts_[r],
                           .heard = entry.heard,
                           .connected = entry.connected,
                           .place = entry.report.place,
                           .silence = clock_.at(now) - entry.heard_at,
                           .stay = entry.report.stay});
  }
  return board;
}

RemoteBoard::RemoteBoard(std::vector<std::string> hosts, milliseconds period, SideTime now)
    : clock_(period, now) {
  last_ = {.available = true, .period = period, .age = milliseconds(0), .ranks = {}};
  for (std::string& host : hosts) last_.ranks.push_back({.host = std::move(host)});
}

void RemoteBoard::received(std::vector<RankState> ranks, SideTime now) {
  if (ranks.size() != last_.ranks.size()) return;  // the frame's parser has refused it already
  for (std::size_t r = 0; r < ranks.size(); ++r) ranks[r].host = std::move(last_.ranks[r].host);
  last_.ranks = std::move(ranks);
  received_at_ = clock_.at(now);
}

std::vector<std::string> RemoteBoard::tick(SideTime now) {
  clock_.tick(now);
  const bool was_silent = silent_;
  const Board seen = board(now);
  silent_ = seen.age > silence_limit(seen.period);
  if (silent_ == was_silent) return {};
  const auto size = static_cast<std::int64_t>(seen.ranks.size());
  if (!silent_) return {describe_rank(0, size, seen.ranks[0].host) + " is heard again"};
  return {diagnose(seen, size).text};  // as nobody in particular
}

Board RemoteBoard::board(SideTime now) const {
  Board board = last_;
  board.age = clock_.at(now) - received_at_;
  return board;
}

}  // namespace cosub::collective
