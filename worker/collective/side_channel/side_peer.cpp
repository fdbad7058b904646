#include <spdlog/spdlog.h>

#include <algorithm>
#include <mutex>

#include "worker/collective/side_channel/side_end.h"
#include "worker/collective/side_channel/side_socket.h"

namespace cosub::collective {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kConnectLimit(3);
constexpr int kLongestPause = 16;       // periods
constexpr int kPatienceInPeriods = 10;  // without a board: the connection may lead nowhere

struct PeerConnection {
  explicit PeerConnection(asio::io_context& context) : socket(context) {}
  tcp::socket socket;
  FrameSender sender;
};

class Peer final : public SideEnd {
 public:
  Peer(asio::io_context& context, SideSetup setup, std::vector<asio::ip::address> addresses,
       std::uint16_t port)
      : setup_(std::move(setup)),
        addresses_(std::move(addresses)),
        port_(port),
        context_(context),
        ticker_(context),
        pause_(context),
        remote_(setup_.hosts, setup_.period, steady_clock::now()) {
    asio::co_spawn(context, stay_connected(), asio::detached);
    asio::co_spawn(context, tick(), asio::detached);
  }

  Board board() const override {
    std::lock_guard lock(mutex_);
    return remote_.board(steady_clock::now());
  }
  Diagnosis diagnosis() const override {
    std::lock_guard lock(mutex_);
    const auto now = steady_clock::now();
    return silences_.diagnosis(remote_.board(now), setup_.rank, now);
  }

 private:
  asio::awaitable<void> stay_connected() {
    for (int pause = 1;; pause = std::min(2 * pause, kLongestPause)) {
      for (const auto& address : addresses_) {
        const bool heard = co_await talk_to(tcp::endpoint(address, port_));
        if (heard) pause = 1;
      }
      pause_.expires_after(pause * setup_.period);
      auto [error] = co_await pause_.async_wait(kAwait);
      if (error) co_return;
    }
  }

  /// Until the connection ends; true when a board came over it.
  asio::awaitable<bool> talk_to(tcp::endpoint endpoint) {
    const auto connection = std::make_shared<PeerConnection>(context_);
    asio::steady_timer limit(context_, kConnectLimit);
    limit.async_wait([connection](error_code cancelled) {
      if (!cancelled) close_quietly(connection->socket);
    });
    auto [error] = co_await connection->socket.async_connect(endpoint, kAwait);
    limit.cancel();
    if (error || !connection->socket.is_open()) co_return false;
    prepare(connection->socket);
    // With its first place, so that nobody waits a period to hear of it.
    const std::string greeting =
        frame_of(Hello{setup_.rank, setup_.token}) + frame_of(setup_.own_place(steady_clock::now()));
    connection->sender.send(connection, connection->socket, std::make_shared<const std::string>(greeting));
    current_ = connection;
    connected_at_ = steady_clock::now();
    const bool heard = co_await read_boards(*connection);
    close_quietly(connection->socket);
    current_ = nullptr;
    co_return heard;
  }

  asio::awaitable<bool> read_boards(PeerConnection& connection) {
    const std::size_t num_ranks = setup_.hosts.size();
    for (bool heard = false;; heard = true) {
      const auto payload = co_await read_payload(connection.socket, most_bytes_of_board(num_ranks));
      auto ranks = payload ? parse_board(*payload, num_ranks) : std::nullopt;
      if (!ranks) co_return heard;
      std::lock_guard lock(mutex_);
      remote_.received(std::move(*ranks), steady_clock::now());
    }
  }

  asio::awaitable<void> tick() {
    for (auto next = steady_clock::now();; next = std::max(next + setup_.period, steady_clock::now())) {
      ticker_.expires_at(next);
      auto [error] = co_await ticker_.async_wait(kAwait);
      if (error) co_return;
      const auto now = steady_clock::now();
      std::vector<std::string> news;
      std::chrono::milliseconds age{0};
      {
        std::lock_guard lock(mutex_);
        news = remote_.tick(now);
        const Board board = remote_.board(now);
        silences_.note(board, setup_.rank, now);
        age = board.age;
      }
      for (const std::string& one : news) spdlog::warn("side channel: {}", one);
      const PlaceReport report = setup_.own_place(now);
      if (!current_) continue;
      const auto patience = kPatienceInPeriods * setup_.period;
      if (age > patience && now - connected_at_ > patience) {
        close_quietly(current_->socket);  // its reader notices and connects anew
        continue;
      }
      current_->sender.send(current_, current_->socket,
                            std::make_shared<const std::string>(frame_of(report)));
    }
  }

  const SideSetup setup_;
  const std::vector<asio::ip::address> addresses_;
  const std::uint16_t port_;
  asio::io_context& context_;
  asio::steady_timer ticker_, pause_;
  std::shared_ptr<PeerConnection> current_;
  steady_clock::time_point connected_at_{};
  mutable std::mutex mutex_;
  RemoteBoard remote_;  // guarded by mutex_, as is the next
  SilenceMemory silences_;
};

}  // namespace

std::unique_ptr<SideEnd> make_side_peer(asio::io_context& context, SideSetup setup,
                                        std::vector<asio::ip::address> addresses, std::uint16_t port) {
  return std::make_unique<Peer>(context, std::move(setup), std::move(addresses), port);
}

}  // namespace cosub::collective
