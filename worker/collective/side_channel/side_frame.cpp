#include "worker/collective/side_channel/side_frame.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

namespace cosub::collective {
namespace {

using std::chrono::milliseconds;

enum Kind : std::uint8_t { kHello = 1, kPlace = 2, kBoard = 3 };
enum Flag : std::uint8_t { kHeard = 1, kConnected = 2 };
constexpr std::size_t kReportBytes = 8 + 1 + 3 * 4 + 8 + 4;
constexpr std::size_t kEntryBytes = 1 + 4 + kReportBytes;

template <class Number>
Number clamped(std::int64_t value) {
  return static_cast<Number>(std::clamp<std::int64_t>(value, std::numeric_limits<Number>::min(),
                                                      std::numeric_limits<Number>::max()));
}

class Writer {
 public:
  template <class Number>
  void put(Number value) {
    auto bits = static_cast<std::make_unsigned_t<Number>>(value);
    for (std::size_t i = 0; i < sizeof(Number); ++i) {
      payload_ += static_cast<char>(static_cast<std::uint64_t>(bits) >> (8 * i) & 0xFF);
    }
  }
  void put(const PlaceReport& report) {
    put(report.place.step);
    put(static_cast<std::uint8_t>(report.place.phase));
    put(clamped<std::int32_t>(report.place.microbatch));
    put(clamped<std::int32_t>(report.place.bucket));
    put(clamped<std::int32_t>(report.place.num_buckets));
    put(report.place.milestone);
    put(clamped<std::uint32_t>(report.stay.count()));
  }
  void put(const std::string& text) { payload_ += text; }
  std::string frame() && {
    Writer header;
    header.put(static_cast<std::uint32_t>(payload_.size()));
    return header.payload_ + payload_;
  }

 private:
  std::string payload_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  /// 0 where nothing is left, and is_whole() is false then.
  template <class Number>
  Number get() {
    if (bytes_.size() < sizeof(Number)) {
      cut_short_ = true;
      bytes_ = {};
      return 0;
    }
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < sizeof(Number); ++i) {
      bits |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes_[i])) << (8 * i);
    }
    bytes_.remove_prefix(sizeof(Number));
    return static_cast<Number>(bits);
  }
  std::optional<PlaceReport> report() {
    PlaceReport report;
    report.place.step = get<std::int64_t>();
    const auto phase = get<std::uint8_t>();
    report.place.microbatch = get<std::int32_t>();
    report.place.bucket = get<std::int32_t>();
    report.place.num_buckets = get<std::int32_t>();
    report.place.milestone = get<std::int64_t>();
    report.stay = milliseconds(get<std::uint32_t>());
    if (cut_short_ || phase >= kNumPhases) return std::nullopt;
    report.place.phase = static_cast<Phase>(phase);
    return report;
  }
  std::string_view rest() { return std::exchange(bytes_, {}); }
  bool is_whole() const { return !cut_short_ && bytes_.empty(); }

 private:
  std::string_view bytes_;
  bool cut_short_ = false;
};

}  // namespace

std::size_t most_bytes_of_board(std::size_t num_ranks) {
  return 1 + 4 + num_ranks * kEntryBytes;
}

std::string frame_of(const Hello& hello) {
  Writer writer;
  writer.put<std::uint8_t>(kHello);
  writer.put(static_cast<std::uint32_t>(hello.rank));
  writer.put(hello.token);
  return std::move(writer).frame();
}

std::string frame_of(const PlaceReport& report) {
  Writer writer;
  writer.put<std::uint8_t>(kPlace);
  writer.put(report);
  return std::move(writer).frame();
}

std::string frame_of(const Board& board) {
  Writer writer;
  writer.put<std::uint8_t>(kBoard);
  writer.put(static_cast<std::uint32_t>(board.ranks.size()));
  for (const RankState& state : board.ranks) {
    writer.put(static_cast<std::uint8_t>((state.heard ? kHeard : 0) | (state.connected ? kConnected : 0)));
    writer.put(clamped<std::uint32_t>(state.silence.count()));
    writer.put(PlaceReport{state.place, state.stay});
  }
  return std::move(writer).frame();
}

std::optional<std::size_t> payload_size(std::string_view header, std::size_t limit) {
  Reader reader(header);
  const std::size_t size = reader.get<std::uint32_t>();
  if (!reader.is_whole() || size == 0 || size > limit) return std::nullopt;
  return size;
}

std::optional<Hello> parse_hello(std::string_view payload, std::size_t num_ranks) {
  Reader reader(payload);
  if (reader.get<std::uint8_t>() != kHello) return std::nullopt;
  Hello hello;
  hello.rank = reader.get<std::uint32_t>();
  hello.token = reader.rest();
  // Rank 0 has no connection to itself.
  if (!reader.is_whole() || hello.rank < 1 || hello.rank >= static_cast<std::int64_t>(num_ranks)) {
    return std::nullopt;
  }
  return hello;
}

std::optional<PlaceReport> parse_place(std::string_view payload) {
  Reader reader(payload);
  if (reader.get<std::uint8_t>() != kPlace) return std::nullopt;
  const auto report = reader.report();
  return reader.is_whole() ? report : std::nullopt;
}

std::optional<std::vector<RankState>> parse_board(std::string_view payload, std::size_t num_ranks) {
  Reader reader(payload);
  if (reader.get<std::uint8_t>() != kBoard || reader.get<std::uint32_t>() != num_ranks) return std::nullopt;
  if (payload.size() != most_bytes_of_board(num_ranks)) return std::nullopt;
  std::vector<RankState> ranks(num_ranks);
  for (RankState& state : ranks) {
    const auto flags = reader.get<std::uint8_t>();
    state.silence = milliseconds(reader.get<std::uint32_t>());
    const auto report = reader.report();
    if (!report || flags > (kHeard | kConnected)) return std::nullopt;
    state.heard = (flags & kHeard) != 0;
    state.connected = (flags & kConnected) != 0;
    state.place = report->place;
    state.stay = report->stay;
  }
  return ranks;
}

}  // namespace cosub::collective
