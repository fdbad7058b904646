// Rank 0's hub and the peers over loopback, all in this process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <functional>
#include <optional>
#include <thread>

#include "common/random.h"
#include "worker/collective/side_channel/side_end.h"
#include "worker/collective/side_channel/side_frame.h"

namespace cosub::collective {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using ::testing::HasSubstr;

constexpr auto kPeriod = 20ms;
const asio::ip::address kLoopback = asio::ip::address_v4::loopback();

/// An end with the thread that runs it.
class Running {
 public:
  ~Running() { stop(); }
  void start() {
    thread_ = std::thread([this] { context.run(); });
  }
  void stop() {  // as a process that is stopped: the sockets stay, nobody reads them
    context.stop();
    if (thread_.joinable()) thread_.join();
  }
  asio::io_context context{1};
  std::unique_ptr<SideEnd> end;

 private:
  std::thread thread_;
};

bool wait_until(const std::function<bool()>& holds) {
  for (const auto end = std::chrono::steady_clock::now() + 60s; std::chrono::steady_clock::now() < end;) {
    if (holds()) return true;
    std::this_thread::yield();
  }
  return false;
}

SideSetup setup(std::int64_t rank, std::int64_t step, const std::string& token = "token") {
  return {.rank = rank,
          .hosts = {"a", "b", "c"},
          .token = token,
          .period = kPeriod,
          .own_place = [step](SideTime) {
            return PlaceReport{{.step = step, .phase = Phase::kLoad, .milestone = step}, 5ms};
          }};
}

class SideEnds : public ::testing::Test {
 protected:
  void start_hub() {
    hub_.emplace();
    auto hub = make_side_hub(hub_->context, setup(0, 100), kLoopback);
    port_ = hub->port();
    hub_->end = std::move(hub);
    hub_->start();
  }
  static void start_peer(std::optional<Running>& peer, SideSetup with, std::uint16_t port) {
    peer.emplace();
    peer->end = make_side_peer(peer->context, std::move(with), {kLoopback}, port);
    peer->start();
  }
  bool hub_sees(std::int64_t rank, std::int64_t step) const {
    const Board board = hub_->end->board();
    return board.ranks[static_cast<std::size_t>(rank)].place.step == step &&
           board.ranks[static_cast<std::size_t>(rank)].connected;
  }
  std::optional<Running> hub_, one_, two_;
  std::uint16_t port_ = 0;
};

TEST_F(SideEnds, EveryRankSeesWhereEveryOtherIs) {
  start_hub();
  start_peer(one_, setup(1, 101), port_);
  start_peer(two_, setup(2, 102), port_);
  for (const auto* running : {&hub_, &one_, &two_}) {
    EXPECT_TRUE(wait_until([&] {
      const Board board = (*running)->end->board();
      return board.ranks[0].place.step == 100 && board.ranks[1].place.step == 101 &&
             board.ranks[2].place.step == 102;
    }));
  }
}

TEST_F(SideEnds, ARankThatStopsIsNamedByTheHubAndByThePeers) {
  start_hub();
  start_peer(one_, setup(1, 100), port_);
  start_peer(two_, setup(2, 100), port_);
  ASSERT_TRUE(wait_until([&] { return hub_sees(1, 100) && hub_sees(2, 100); }));
  two_->stop();
  const auto named_by = [&](const Running& running, std::int64_t rank) {
    const Diagnosis found = diagnose(running.end->board(), rank);
    return found.ranks == std::vector<std::int64_t>{2} &&
           found.text.find("rank 2 of 3 on c was last heard ") == 0;
  };
  EXPECT_TRUE(wait_until([&] { return named_by(*hub_, 0); }));
  EXPECT_TRUE(wait_until([&] { return named_by(*one_, 1); }));
}

TEST_F(SideEnds, RankZeroThatStopsIsNamedByThePeers) {
  start_hub();
  start_peer(one_, setup(1, 100), port_);
  start_peer(two_, setup(2, 100), port_);
  ASSERT_TRUE(wait_until([&] { return hub_sees(1, 100) && hub_sees(2, 100); }));
  hub_->stop();
  for (const auto* running : {&one_, &two_}) {
    EXPECT_TRUE(wait_until([&] {
      return diagnose((*running)->end->board(), running == &one_ ? 1 : 2).ranks ==
             std::vector<std::int64_t>{0};
    }));
  }
}

TEST_F(SideEnds, APeerComesAgainWhenItsConnectionBreaks) {
  start_hub();
  start_peer(one_, setup(1, 101), port_);
  ASSERT_TRUE(wait_until([&] { return hub_sees(1, 101); }));
  std::optional<Running> again;
  start_peer(again, setup(1, 201), port_);  // takes the place of the first one, whose connection is closed
  ASSERT_TRUE(wait_until([&] { return hub_sees(1, 201); }));
  again.reset();
  EXPECT_TRUE(wait_until([&] { return hub_sees(1, 101); }));
}

TEST_F(SideEnds, APeerFindsAHubThatComesLater) {
  start_hub();
  hub_.reset();  // the port is free, and nobody answers there
  start_peer(one_, setup(1, 101), port_);
  ASSERT_TRUE(wait_until([&] { return diagnose(one_->end->board(), 1).ranks.size() == 1; }));
  EXPECT_THAT(diagnose(one_->end->board(), 1).text, HasSubstr("rank 0 of 3 on a was never heard"));
}

TEST_F(SideEnds, WhoDoesNotKnowTheTokenIsNotHeard) {
  start_hub();
  start_peer(one_, setup(1, 101, "guess"), port_);
  start_peer(two_, setup(2, 102), port_);
  ASSERT_TRUE(wait_until([&] { return hub_sees(2, 102); }));
  ASSERT_TRUE(wait_until([&] { return diagnose(one_->end->board(), 1).ranks.size() == 1; }));
  EXPECT_FALSE(hub_->end->board().ranks[1].heard);
}

/// Garbage before and after a good hello, and connections that say nothing, leave the others as they are.
TEST_F(SideEnds, RandomBytesDoNoHarm) {
  start_hub();
  start_peer(two_, setup(2, 102), port_);
  KeyedRandom random(2, Purpose::kTest, 0, 0);
  asio::io_context context;
  std::vector<asio::ip::tcp::socket> sockets;
  for (int i = 0; i < 50; ++i) {
    auto& socket = sockets.emplace_back(context);
    socket.connect({kLoopback, port_});
    std::string bytes = i % 2 == 0 ? "" : frame_of(Hello{1, "token"});
    for (std::uint64_t n = random.uniform_int(200); n > 0; --n)
      bytes += static_cast<char>(random.uniform_int(256));
    boost::system::error_code closed_by_hub;
    asio::write(socket, asio::buffer(bytes), closed_by_hub);
    if (i % 5 != 0) socket.close(closed_by_hub);
  }
  start_peer(one_, setup(1, 101), port_);
  EXPECT_TRUE(wait_until([&] { return hub_sees(1, 101) && hub_sees(2, 102); }));
}

}  // namespace
}  // namespace cosub::collective
