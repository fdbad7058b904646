// What the two ends of the side channel share: reading one frame, and a socket that does not survive exec.
#pragma once

#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "worker/collective/side_channel/side_frame.h"

namespace cosub::collective {

inline constexpr auto kAwait = boost::asio::as_tuple(boost::asio::use_awaitable);

/// The next payload; nullopt when the connection ends or something larger than `limit` comes.
inline boost::asio::awaitable<std::optional<std::string>> read_payload(boost::asio::ip::tcp::socket& socket,
                                                                       std::size_t limit) {
  std::array<char, kFrameHeaderBytes> header{};
  auto [header_error, header_bytes] =
      co_await boost::asio::async_read(socket, boost::asio::buffer(header), kAwait);
  if (header_error) co_return std::nullopt;
  const auto size = payload_size(std::string_view(header.data(), header.size()), limit);
  if (!size) co_return std::nullopt;
  std::string payload(*size, '\0');
  auto [error, bytes] = co_await boost::asio::async_read(socket, boost::asio::buffer(payload), kAwait);
  if (error) co_return std::nullopt;
  co_return payload;
}

/// Small frames leave at once, and a child process does not keep the connection open.
inline void prepare(boost::asio::ip::tcp::socket& socket) {
  boost::system::error_code ignored;  // only slower without it
  socket.set_option(boost::asio::ip::tcp::no_delay(true), ignored);
  if (::fcntl(socket.native_handle(), F_SETFD, FD_CLOEXEC) != 0)
    spdlog::warn("cannot set close-on-exec on a socket");
}

inline void close_quietly(boost::asio::ip::tcp::socket& socket) {
  boost::system::error_code ignored;  // it is closed whatever this says
  socket.close(ignored);
}

/// Sends frames without ever queueing: while one is on its way, others are dropped.
class FrameSender {
 public:
  template <class Owner>
  void send(const std::shared_ptr<Owner>& owner, boost::asio::ip::tcp::socket& socket,
            std::shared_ptr<const std::string> frame) {
    if (busy_ || !socket.is_open()) return;
    busy_ = true;
    const auto buffer = boost::asio::buffer(*frame);
    boost::asio::async_write(socket, buffer, [this, owner, frame](boost::system::error_code, std::size_t) {
      busy_ = false;  // an error shows itself to who reads the same socket
    });
  }

 private:
  bool busy_ = false;
};

}  // namespace cosub::collective
