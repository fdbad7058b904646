#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <map>
#include <mutex>

#include "common/error.h"
#include "worker/collective/side_channel/side_end.h"
#include "worker/collective/side_channel/side_socket.h"

namespace cosub::collective {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kHelloLimit(5);
constexpr std::size_t kSpareConnections = 64;  // beyond one for each rank: those that have not said hello

struct HubConnection {
  explicit HubConnection(tcp::socket from) : socket(std::move(from)), hello_limit(socket.get_executor()) {}
  tcp::socket socket;
  asio::steady_timer hello_limit;
  FrameSender sender;
};

class Hub final : public SideHub {
 public:
  Hub(asio::io_context& context, SideSetup setup, const asio::ip::address& address)
      : setup_(std::move(setup)),
        acceptor_(context),
        ticker_(context),
        keeper_(setup_.hosts, setup_.period, steady_clock::now()) {
    listen({address, 0});
  }

  void start() {
    asio::co_spawn(acceptor_.get_executor(), accept(), asio::detached);
    asio::co_spawn(acceptor_.get_executor(), tick(), asio::detached);
  }

  Board board() const override {
    std::lock_guard lock(mutex_);
    return keeper_.board(steady_clock::now());
  }
  Diagnosis diagnosis() const override {
    std::lock_guard lock(mutex_);
    const auto now = steady_clock::now();
    return silences_.diagnosis(keeper_.board(now), 0, now);
  }
  std::uint16_t port() const override { return acceptor_.local_endpoint().port(); }

 private:
  void listen(const tcp::endpoint& endpoint) {
    try {
      acceptor_.open(endpoint.protocol());
      acceptor_.bind(endpoint);
      acceptor_.listen();
    } catch (const boost::system::system_error& error) {
      throw IoError(fmt::format("the side channel cannot listen on {}: {}", endpoint.address().to_string(),
                                error.code().message()));
    }
    if (::fcntl(acceptor_.native_handle(), F_SETFD, FD_CLOEXEC) != 0)
      spdlog::warn("cannot set close-on-exec on a socket");
  }

  asio::awaitable<void> accept() {
    while (acceptor_.is_open()) {
      auto [error, socket] = co_await acceptor_.async_accept(kAwait);
      if (error) {  // too many open files, say: those that wait to be accepted wait on
        asio::steady_timer pause(acceptor_.get_executor(), setup_.period);
        co_await pause.async_wait(kAwait);
        continue;
      }
      if (num_connections_ >= setup_.hosts.size() + kSpareConnections) continue;  // closes it
      prepare(socket);
      asio::co_spawn(acceptor_.get_executor(), serve(std::make_shared<HubConnection>(std::move(socket))),
                     asio::detached);
    }
  }

  asio::awaitable<void> serve(std::shared_ptr<HubConnection> connection) {
    ++num_connections_;
    connection->hello_limit.expires_after(kHelloLimit);
    connection->hello_limit.async_wait([connection](error_code cancelled) {
      if (!cancelled) close_quietly(connection->socket);
    });
    const auto payload = co_await read_payload(connection->socket, kMostBytesToRank0);
    connection->hello_limit.cancel();
    const auto hello = payload ? parse_hello(*payload, setup_.hosts.size()) : std::nullopt;
    if (hello && hello->token == setup_.token) {
      co_await listen_to(hello->rank, connection);
    } else {
      refuse(connection->socket);
    }
    close_quietly(connection->socket);
    --num_connections_;
  }

  asio::awaitable<void> listen_to(std::int64_t rank, std::shared_ptr<HubConnection> connection) {
    auto& current = by_rank_[rank];
    if (current) close_quietly(current->socket);  // it has come anew
    current = connection;
    std::shared_ptr<const std::string> frame;
    note([&] {
      keeper_.connected(rank, true);
      frame = std::make_shared<const std::string>(frame_of(keeper_.board(steady_clock::now())));
    });
    connection->sender.send(connection, connection->socket, frame);
    while (true) {
      const auto payload = co_await read_payload(connection->socket, kMostBytesToRank0);
      const auto report = payload ? parse_place(*payload) : std::nullopt;
      if (!report) break;
      note([&] { keeper_.heard(rank, *report, steady_clock::now()); });
    }
    if (by_rank_[rank] != connection) co_return;
    by_rank_.erase(rank);
    note([&] { keeper_.connected(rank, false); });
  }

  void refuse(tcp::socket& socket) {
    if (std::exchange(has_refused_, true)) return;
    error_code error;
    const auto from = socket.remote_endpoint(error);
    spdlog::warn("side channel: refused a connection{} that is none of this job's ranks (said once)",
                 error ? "" : " from " + from.address().to_string());
  }

  asio::awaitable<void> tick() {
    for (auto next = steady_clock::now();; next = std::max(next + setup_.period, steady_clock::now())) {
      ticker_.expires_at(next);
      auto [error] = co_await ticker_.async_wait(kAwait);
      if (error) co_return;
      const auto now = steady_clock::now();
      std::vector<std::string> news;
      std::shared_ptr<const std::string> frame;
      note([&] {
        keeper_.heard(0, setup_.own_place(now), now);
        news = keeper_.tick(now);
        silences_.note(keeper_.board(now), 0, now);
        frame = std::make_shared<const std::string>(frame_of(keeper_.board(now)));
      });
      for (const std::string& one : news) spdlog::warn("side channel: {}", one);
      for (auto& [rank, connection] : by_rank_)
        connection->sender.send(connection, connection->socket, frame);
    }
  }

  template <class Work>
  void note(Work&& work) {
    std::lock_guard lock(mutex_);
    work();
  }

  const SideSetup setup_;
  tcp::acceptor acceptor_;
  asio::steady_timer ticker_;
  std::map<std::int64_t, std::shared_ptr<HubConnection>> by_rank_;
  std::size_t num_connections_ = 0;
  bool has_refused_ = false;
  mutable std::mutex mutex_;
  BoardKeeper keeper_;  // guarded by mutex_, as is the next
  SilenceMemory silences_;
};

}  // namespace

std::unique_ptr<SideHub> make_side_hub(asio::io_context& context, SideSetup setup,
                                       const asio::ip::address& address) {
  auto hub = std::make_unique<Hub>(context, std::move(setup), address);
  hub->start();
  return hub;
}

}  // namespace cosub::collective
