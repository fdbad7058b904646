#include "common/http.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "common/error.h"
#include "common/http_address.h"

namespace cosub::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace bhttp = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::milliseconds;

constexpr std::uint64_t kMaxBodyBytes = 8 * 1024 * 1024;
constexpr std::uint32_t kMaxHeaderBytes = 16 * 1024;
constexpr std::chrono::seconds limit(30);  // of a request, its reply, and the pause between two requests
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

/// Asio opens sockets without it, and a child process would keep the port taken.
void close_on_exec(tcp::socket::native_handle_type handle) {
  if (::fcntl(handle, F_SETFD, FD_CLOEXEC) != 0) spdlog::warn("cannot set close-on-exec on a socket");
}

std::string bearer_token_of(const bhttp::request<bhttp::string_body>& request) {
  const std::string_view value = request[bhttp::field::authorization];
  constexpr std::string_view kScheme = "Bearer ";
  if (!beast::iequals(value.substr(0, kScheme.size()), kScheme)) return "";
  return std::string(value.substr(kScheme.size()));
}

Response error_response(int status, const std::string& what) {
  return {status,
          nlohmann::json{{"error", what}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
}

bhttp::response<bhttp::string_body> to_beast(Response response, unsigned version, bool keep_alive) {
  bhttp::response<bhttp::string_body> reply(static_cast<bhttp::status>(response.status), version);
  reply.set(bhttp::field::server, "cosub");
  reply.set(bhttp::field::content_type, response.content_type);
  reply.keep_alive(keep_alive);
  reply.body() = std::move(response.body);
  reply.prepare_payload();
  return reply;
}

/// What a request that could not be read is answered with; nothing where nobody waits for an answer.
std::optional<Response> refusal(const error_code& error) {
  if (error == bhttp::error::body_limit)
    return error_response(413, fmt::format("the body is larger than {} bytes", kMaxBodyBytes));
  if (error == bhttp::error::header_limit)
    return error_response(431, fmt::format("the headers are larger than {} bytes", kMaxHeaderBytes));
  const bool cut_off = error == bhttp::error::end_of_stream || error == bhttp::error::partial_message;
  if (cut_off || error.category() != make_error_code(bhttp::error::bad_method).category())
    return std::nullopt;
  return error_response(400, "not an HTTP request: " + error.message());
}

}  // namespace

struct Server::Impl : std::enable_shared_from_this<Server::Impl> {
  Impl(asio::strand<asio::io_context::executor_type> strand_in, Handler handler_in, milliseconds limit_in)
      : strand(std::move(strand_in)), acceptor(strand), handler(std::move(handler_in)), limit(limit_in) {}

  void listen(const std::string& address, std::uint16_t port);
  asio::awaitable<void> accept_all();
  asio::awaitable<void> serve(std::shared_ptr<beast::tcp_stream> stream);
  asio::awaitable<bool> send(beast::tcp_stream& stream, Response response, unsigned version, bool keep_alive);
  asio::awaitable<void> close_gently(beast::tcp_stream& stream);
  Response answer(bhttp::request<bhttp::string_body> request);
  void stop();

  asio::strand<asio::io_context::executor_type> strand;
  tcp::acceptor acceptor;
  Handler handler;
  milliseconds limit;
  std::set<std::shared_ptr<beast::tcp_stream>> streams;
  bool stopped = false;
  std::uint16_t bound_port = 0;
};

void Server::Impl::listen(const std::string& address, std::uint16_t port) {
  error_code error;
  tcp::resolver resolver(strand.get_inner_executor());
  const auto found = resolver.resolve(address, std::to_string(port), tcp::resolver::passive, error);
  if (!error) {
    const tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor.open(endpoint.protocol(), error);
    if (!error) close_on_exec(acceptor.native_handle());
    if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  }
  if (error)
    throw IoError(
        fmt::format("cannot listen on {}:{}: {}; stop the program that has the port, or choose another "
                    "(port 0 takes any free one)",
                    address, port, error.message()),
        error.value());
  bound_port = acceptor.local_endpoint().port();
}

asio::awaitable<void> Server::Impl::accept_all() {
  const auto self = shared_from_this();
  while (!stopped) {
    auto [error, socket] = co_await acceptor.async_accept(strand, kAwait);
    if (stopped) co_return;
    if (error) {  // out of descriptors, mostly: they come back as connections end
      spdlog::warn("cannot accept a connection: {}", error.message());
      asio::steady_timer pause(strand, milliseconds(100));
      auto [cancelled] = co_await pause.async_wait(kAwait);
      if (cancelled) co_return;
      continue;
    }
    close_on_exec(socket.native_handle());
    auto stream = std::make_shared<beast::tcp_stream>(std::move(socket));
    streams.insert(stream);
    asio::co_spawn(strand, serve(stream), [self, stream](const std::exception_ptr& failure) {
      self->streams.erase(stream);
      if (failure == nullptr) return;
      try {
        std::rethrow_exception(failure);
      } catch (const std::exception& caught) {
        spdlog::error("a connection ended with an exception: {}", caught.what());
      }
    });
  }
}

asio::awaitable<void> Server::Impl::serve(std::shared_ptr<beast::tcp_stream> stream) {
  const auto self = shared_from_this();
  beast::flat_buffer buffer;
  for (bool keep_alive = true; keep_alive && !stopped;) {
    bhttp::request_parser<bhttp::string_body> parser;
    parser.body_limit(kMaxBodyBytes);
    parser.header_limit(kMaxHeaderBytes);
    stream->expires_after(limit);
    auto [error, size] = co_await bhttp::async_read(*stream, buffer, parser, kAwait);
    if (stopped) co_return;
    if (error) {
      std::optional<Response> refused = refusal(error);
      if (refused && co_await send(*stream, *refused, 11, false)) co_await close_gently(*stream);
      co_return;
    }
    keep_alive = parser.get().keep_alive();
    const unsigned version = parser.get().version();
    Response response = answer(parser.release());
    if (!co_await send(*stream, std::move(response), version, keep_alive)) co_return;
  }
  co_await close_gently(*stream);
}

asio::awaitable<bool> Server::Impl::send(beast::tcp_stream& stream, Response response, unsigned version,
                                         bool keep_alive) {
  const auto reply = to_beast(std::move(response), version, keep_alive);
  stream.expires_after(limit);
  auto [error, size] = co_await bhttp::async_write(stream, reply, kAwait);
  co_return !error;
}

/// Reads on for a moment after the last reply: closing with unread bytes would reset the connection, and the
/// other side would lose the reply that says why it was refused.
asio::awaitable<void> Server::Impl::close_gently(beast::tcp_stream& stream) {
  error_code ignored;  // the peer may be gone already
  stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  stream.expires_after(std::chrono::seconds(2));
  std::vector<char> discarded(std::size_t{1} << 16);
  for (;;) {
    auto [error, size] = co_await stream.async_read_some(asio::buffer(discarded), kAwait);
    if (error) co_return;
  }
}

Response Server::Impl::answer(bhttp::request<bhttp::string_body> request) {
  const Request plain{std::string(request.method_string()), std::string(request.target()),
                      bearer_token_of(request), std::move(request.body())};
  try {
    return handler(plain);
  } catch (const std::exception& error) {
    spdlog::error("{} {}: {}", plain.method, plain.target, error.what());
    return error_response(500, error.what());
  }
}

void Server::Impl::stop() {
  if (stopped) return;
  stopped = true;
  error_code ignored;  // closing what is closed already
  acceptor.close(ignored);
  for (const auto& stream : streams) stream->close();
}

Server::Server(asio::strand<asio::io_context::executor_type> strand, const std::string& address,
               std::uint16_t port, Handler handler, milliseconds request_limit)
    : impl_(std::make_shared<Impl>(strand, std::move(handler), request_limit)) {
  impl_->listen(address, port);
  asio::co_spawn(strand, impl_->accept_all(), asio::detached);
}

Server::~Server() {
  stop();
}

std::uint16_t Server::port() const {
  return impl_->bound_port;
}

void Server::stop() {
  impl_->stop();
}

struct Client::Impl {
  Impl(Address address_in, std::string token_in, milliseconds limit_in)
      : address(std::move(address_in)), token(std::move(token_in)), limit(limit_in) {}

  Result request(bhttp::verb method, const std::string& target, const std::string& body);
  asio::awaitable<void> exchange(const bhttp::request<bhttp::string_body>& message, Result& result);
  asio::awaitable<error_code> connect();
  asio::awaitable<error_code> send_and_receive(const bhttp::request<bhttp::string_body>& message,
                                               Result& result);
  std::string describe(const error_code& error, const std::string& action) const;

  Address address;
  std::string token;
  milliseconds limit;
  asio::io_context context{1};
  std::optional<beast::tcp_stream> stream;  // set while connected
  bool answered = false;                    // the peer sent a byte of the reply that is being read
  std::chrono::steady_clock::time_point deadline;
};

std::string Client::Impl::describe(const error_code& error, const std::string& action) const {
  if (error == beast::error::timeout) return fmt::format("{}: no answer within {} ms", action, limit.count());
  return fmt::format("{}: {}", action, error.message());
}

asio::awaitable<error_code> Client::Impl::connect() {
  error_code not_numeric;
  const asio::ip::address numeric = asio::ip::make_address(address.host, not_numeric);
  stream.emplace(context);
  stream->expires_at(deadline);
  if (!not_numeric) {
    auto [error] = co_await stream->async_connect(tcp::endpoint(numeric, address.port), kAwait);
    if (!error) close_on_exec(stream->socket().native_handle());
    co_return error;
  }
  tcp::resolver resolver(context);
  auto [unresolved, endpoints] =
      co_await resolver.async_resolve(address.host, std::to_string(address.port), kAwait);
  if (unresolved) co_return unresolved;
  stream->expires_at(deadline);
  auto [error, endpoint] = co_await stream->async_connect(endpoints, kAwait);
  if (!error) close_on_exec(stream->socket().native_handle());
  co_return error;
}

asio::awaitable<error_code> Client::Impl::send_and_receive(const bhttp::request<bhttp::string_body>& message,
                                                           Result& result) {
  answered = false;
  stream->expires_at(deadline);
  auto [write_error, written] = co_await bhttp::async_write(*stream, message, kAwait);
  // A server that refuses a body early answers before it has read all: its reply counts, not the failed
  // write.
  if (write_error == beast::error::timeout) co_return write_error;
  bhttp::response_parser<bhttp::string_body> parser;
  parser.body_limit(kMaxBodyBytes);
  parser.header_limit(kMaxHeaderBytes);
  beast::flat_buffer buffer;
  auto [read_error, count] = co_await bhttp::async_read(*stream, buffer, parser, kAwait);
  answered = parser.got_some();
  if (read_error) co_return write_error ? write_error : read_error;
  result.status = parser.get().result_int();
  result.body = std::move(parser.get().body());
  if (!parser.get().keep_alive() || write_error) stream.reset();
  co_return error_code();
}

asio::awaitable<void> Client::Impl::exchange(const bhttp::request<bhttp::string_body>& message,
                                             Result& result) {
  const std::string where = address.text();
  for (;;) {
    const bool reused = stream.has_value();
    if (!reused) {
      if (const error_code error = co_await connect()) {
        result.failure = describe(error, "connect to " + where);
        break;
      }
    }
    const error_code error = co_await send_and_receive(message, result);
    if (!error) co_return;
    stream.reset();
    // The server closed the idle connection (or was started again) before this request reached it.
    if (reused && !answered && error != beast::error::timeout) continue;
    result.failure = describe(error, fmt::format("{} {} at {}", std::string(message.method_string()),
                                                 std::string(message.target()), where));
    break;
  }
  stream.reset();
}

Result Client::Impl::request(bhttp::verb method, const std::string& target, const std::string& body) {
  bhttp::request<bhttp::string_body> message(method, target, 11);
  message.set(bhttp::field::host, address.text());
  message.set(bhttp::field::user_agent, "cosub");
  if (!token.empty()) message.set(bhttp::field::authorization, "Bearer " + token);
  if (method == bhttp::verb::post) message.set(bhttp::field::content_type, "application/json");
  message.body() = body;
  message.prepare_payload();

  Result result;
  deadline = std::chrono::steady_clock::now() + limit;
  context.restart();
  asio::co_spawn(context, exchange(message, result), asio::detached);
  context.run();
  return result;
}

namespace {

std::string without_line_end(std::string token) {
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  return token;
}

}  // namespace

Client::Client(const std::string& address, std::string bearer_token, milliseconds limit)
    : impl_(
          std::make_unique<Impl>(parse_address(address), without_line_end(std::move(bearer_token)), limit)) {}

Client::~Client() = default;

Result Client::get(const std::string& target) {
  return impl_->request(bhttp::verb::get, target, "");
}

Result Client::post(const std::string& target, const std::string& body) {
  return impl_->request(bhttp::verb::post, target, body);
}

}  // namespace cosub::http
