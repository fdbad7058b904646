// The side channel's bytes: what was written is read, anything else is refused.
#include "worker/collective/side_channel/side_frame.h"

#include <gtest/gtest.h>

#include "common/random.h"

namespace cosub::collective {
namespace {

using namespace std::chrono_literals;

PlaceReport report() {
  return {{.step = 1'000'000'000'000,
           .phase = Phase::kEvaluate,
           .microbatch = -1,
           .bucket = 3,
           .num_buckets = 9,
           .milestone = 77},
          12'345ms};
}

std::string_view payload_of(const std::string& frame) {
  return std::string_view(frame).substr(kFrameHeaderBytes);
}

TEST(SideFrame, AllAreReadAsWritten) {
  const std::string hello = frame_of(Hello{2, "token"});
  EXPECT_EQ(payload_size(hello.substr(0, 4), 100), hello.size() - 4);
  const auto read_hello = parse_hello(payload_of(hello), 3);
  ASSERT_TRUE(read_hello);
  EXPECT_EQ(read_hello->rank, 2);
  EXPECT_EQ(read_hello->token, "token");

  const std::string place_frame = frame_of(report());
  const auto place = parse_place(payload_of(place_frame));
  ASSERT_TRUE(place);
  EXPECT_EQ(place->place, report().place);
  EXPECT_EQ(place->stay, report().stay);

  Board board{.available = true};
  board.ranks.resize(2);
  board.ranks[1] = {.heard = true, .connected = true, .place = report().place, .silence = 9ms, .stay = 8ms};
  const std::string frame = frame_of(board);
  EXPECT_EQ(payload_of(frame).size(), most_bytes_of_board(2));
  const auto ranks = parse_board(payload_of(frame), 2);
  ASSERT_TRUE(ranks);
  EXPECT_FALSE(ranks->at(0).heard);
  EXPECT_TRUE(ranks->at(1).connected);
  EXPECT_EQ(ranks->at(1).place, report().place);
  EXPECT_EQ(ranks->at(1).silence, 9ms);
}

TEST(SideFrame, SizesBeyondTheLimitAndEmptyOnesAreRefused) {
  EXPECT_FALSE(payload_size(std::string(4, '\0'), 100));
  EXPECT_FALSE(payload_size("\xFF\xFF\xFF\xFF", 100));
  EXPECT_FALSE(payload_size("ab", 100));
}

TEST(SideFrame, EveryCutEveryExtraByteAndEveryWrongRankIsRefused) {
  const std::string frame = frame_of(report());
  const std::string_view place = payload_of(frame);
  for (std::size_t n = 0; n < place.size(); ++n) EXPECT_FALSE(parse_place(place.substr(0, n))) << n;
  EXPECT_FALSE(parse_place(std::string(place) + "x"));
  for (std::int64_t rank : {0, 3, 1000}) {
    const std::string hello = frame_of(Hello{rank, "token"});
    EXPECT_FALSE(parse_hello(payload_of(hello), 3)) << rank;
  }
  Board board{.available = true};
  board.ranks.resize(2);
  const std::string board_frame = frame_of(board);
  EXPECT_FALSE(parse_board(payload_of(board_frame), 3));
}

TEST(SideFrame, RandomBytesAreNeverReadAsAnUnknownPhase) {
  KeyedRandom random(1, Purpose::kTest, 0, 0);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(random.uniform_int(60), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.uniform_int(256));
    if (!bytes.empty()) bytes[0] = static_cast<char>(1 + random.uniform_int(3));  // a known kind
    parse_hello(bytes, 3);
    if (const auto place = parse_place(bytes)) describe(place->place);
    if (const auto ranks = parse_board(bytes, 1)) describe(ranks->at(0).place);
  }
}

}  // namespace
}  // namespace cosub::collective
