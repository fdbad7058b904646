// HTTP/1.1 client and server over Boost.Beast, which is included by http.cpp alone. Bodies are JSON text.
// The server calls its handler on the one strand that owns all coordinator state, so a handler needs no lock;
// a handler must not block for longer than a SQLite commit. Limits: 8 MiB bodies, 16 KiB headers, 30 s per
// request.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace cosub::http {

struct Request {
  std::string method;        // "GET", "POST", ...
  std::string target;        // path with query, as sent
  std::string bearer_token;  // "" when none was sent
  std::string body;
};

struct Response {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
};

using Handler = std::function<Response(const Request&)>;

class Server {
 public:
  /// Binds at once (port 0: any free one); IoError naming address, port and the remedy when it is taken.
  /// `request_limit` is for a request, for its reply, and for the pause between two requests of a connection.
  Server(boost::asio::strand<boost::asio::io_context::executor_type> strand, const std::string& address,
         std::uint16_t port, Handler handler,
         std::chrono::milliseconds request_limit = std::chrono::seconds(30));
  ~Server();
  std::uint16_t port() const;
  void stop();  // stops accepting and closes connections; call on the strand or when the context has stopped

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// What became of a request: a reply of any status, or the reason why there is none.
struct Result {
  int status = 0;  // 0: no reply
  std::string body;
  std::string failure;  // set when status is 0: "connect to 127.0.0.1:8080: Connection refused"
  bool ok() const { return status >= 200 && status < 300; }
};

/// Blocking client with keep-alive; one request at a time; not thread-safe. Reconnects by itself: where an
/// idle connection turns out closed, the request is sent once more, so requests must bear being delivered
/// twice. `limit` is for the whole of a request; looking up a host's name follows the system resolver's own
/// limits.
class Client {
 public:
  /// `address` is host:port or http://host:port; ConfigError when it is neither.
  explicit Client(const std::string& address, std::string bearer_token = "",
                  std::chrono::milliseconds limit = std::chrono::seconds(10));
  ~Client();
  Result get(const std::string& target);
  Result post(const std::string& target, const std::string& body);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cosub::http
