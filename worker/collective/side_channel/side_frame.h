// What travels on a side channel, as bytes: a frame is its payload's size (4 bytes) and the payload, all
// numbers little-endian. Reading refuses anything that is not exactly such a payload: peers are other hosts,
// and a port can be found by anyone.
//   hello (to rank 0):   kind 1 | rank 4 | token
//   place (to rank 0):   kind 2 | report
//   board (from rank 0): kind 3 | number of ranks 4 | for each: flags 1 (heard, connected) | silence_ms 4 |
//   report report:              step 8 | phase 1 | microbatch 4 | bucket 4 | num_buckets 4 | milestone 8 |
//   stay_ms 4
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/collective/side_channel/board_keeper.h"

namespace cosub::collective {

constexpr std::size_t kFrameHeaderBytes = 4;
constexpr std::size_t kMostBytesToRank0 = 128;
std::size_t most_bytes_of_board(std::size_t num_ranks);

struct Hello {
  std::int64_t rank = 0;
  std::string token;
};

/// Whole frames, header included.
std::string frame_of(const Hello& hello);
std::string frame_of(const PlaceReport& report);
std::string frame_of(const Board& board);

/// Of a frame's header (kFrameHeaderBytes); nullopt when the payload is empty or larger than `limit`.
std::optional<std::size_t> payload_size(std::string_view header, std::size_t limit);

/// Of payloads; nullopt when they are anything else.
std::optional<Hello> parse_hello(std::string_view payload, std::size_t num_ranks);
std::optional<PlaceReport> parse_place(std::string_view payload);
std::optional<std::vector<RankState>> parse_board(std::string_view payload, std::size_t num_ranks);

}  // namespace cosub::collective
