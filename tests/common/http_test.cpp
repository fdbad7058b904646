#include "common/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/connect.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/error.h"
#include "common/http_address.h"

namespace cosub::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::ThrowsMessage;

Response echo(const Request& request) {
  if (request.target == "/throw") throw std::runtime_error("the handler broke");
  const nlohmann::json reply = {{"method", request.method},
                                {"target", request.target},
                                {"token", request.bearer_token},
                                {"body_bytes", request.body.size()}};
  return {request.target == "/missing" ? 404 : 200, reply.dump()};
}

/// A server with `num_threads` running its context.
class RunningServer {
 public:
  explicit RunningServer(Handler handler = echo, std::uint16_t port = 0, int num_threads = 1,
                         milliseconds limit = std::chrono::seconds(30))
      : server_(std::in_place, strand_, "127.0.0.1", port, std::move(handler), limit) {
    for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { context_.run(); });
  }
  ~RunningServer() {
    std::promise<void> stopped;
    asio::post(strand_, [&] {
      server_->stop();
      stopped.set_value();
    });
    stopped.get_future().wait();
    work_.reset();
    for (std::thread& thread : threads_) thread.join();
  }
  std::uint16_t port() const { return server_->port(); }
  std::string address() const { return "127.0.0.1:" + std::to_string(port()); }

 private:
  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_{context_.get_executor()};
  asio::strand<asio::io_context::executor_type> strand_{context_.get_executor()};
  std::optional<Server> server_;
  std::vector<std::thread> threads_;
};

/// A plain TCP connection that says whatever it likes.
class RawConnection {
 public:
  explicit RawConnection(std::uint16_t port) { socket_.connect({asio::ip::make_address("127.0.0.1"), port}); }
  void send(const std::string& text) { asio::write(socket_, asio::buffer(text)); }
  std::string read_to_end() {
    std::string text;
    boost::system::error_code end;
    asio::read(socket_, asio::dynamic_buffer(text), end);
    return text;
  }

 private:
  asio::io_context context_;
  tcp::socket socket_{context_};
};

/// Listens, and lets connections wait without a word.
class SilentServer {
 public:
  std::string address() const { return "127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()); }
  tcp::socket accept() { return acceptor_.accept(); }

 private:
  asio::io_context context_;
  tcp::acceptor acceptor_{context_, {asio::ip::make_address("127.0.0.1"), 0}};
};

TEST(Http, CarriesMethodTargetTokenAndBody) {
  const RunningServer server;
  Client client("http://" + server.address() + "/", "secret\n");
  const Result result = client.post("/v1/x?y=1", std::string(100'000, 'b'));
  ASSERT_EQ(result.status, 200) << result.failure;
  EXPECT_TRUE(result.ok());
  const auto reply = nlohmann::json::parse(result.body);
  EXPECT_EQ(reply["method"], "POST");
  EXPECT_EQ(reply["target"], "/v1/x?y=1");
  EXPECT_EQ(reply["token"], "secret");
  EXPECT_EQ(reply["body_bytes"], 100'000);
  EXPECT_EQ(nlohmann::json::parse(client.get("/").body)["method"], "GET");
  EXPECT_EQ(nlohmann::json::parse(Client(server.address()).get("/").body)["token"], "");
}

TEST(Http, StatusOfAnErrorIsAReplyAndNoFailure) {
  const RunningServer server;
  const Result result = Client(server.address()).get("/missing");
  EXPECT_EQ(result.status, 404);
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.failure, "");
}

TEST(Http, HandlerRunsOnOneStrandWhateverTheThreads) {
  int num_handled = 0;  // no lock: ThreadSanitizer watches
  const RunningServer server(
      [&](const Request&) {
        ++num_handled;
        return Response{200, std::to_string(num_handled)};
      },
      0, 4);
  std::atomic<int> num_ok = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i)
    clients.emplace_back([&] {
      Client client(server.address());
      for (int n = 0; n < 125; ++n) num_ok += client.post("/", "{}").ok() ? 1 : 0;
    });
  for (std::thread& thread : clients) thread.join();
  EXPECT_EQ(num_ok, 1000);
  EXPECT_EQ(Client(server.address()).get("/").body, "1001");
}

TEST(Http, ThrowingHandlerGivesAnErrorAndTheNextRequestWorks) {
  const RunningServer server;
  Client client(server.address());
  const Result result = client.get("/throw");
  EXPECT_EQ(result.status, 500);
  EXPECT_EQ(result.body, R"({"error":"the handler broke"})");
  EXPECT_TRUE(client.get("/").ok());
}

TEST(Http, TakenPortIsNamedWithARemedy) {
  const RunningServer server;
  EXPECT_THAT([&] { RunningServer second(echo, server.port()); },
              ThrowsMessage<IoError>(AllOf(HasSubstr("cannot listen on " + server.address()),
                                           HasSubstr("Address already in use"), HasSubstr("port 0"))));
}

TEST(Http, LargeBodyIsRefusedWithAReason) {
  const RunningServer server;
  Client client(server.address());
  const Result result = client.post("/", std::string(9 << 20, 'x'));
  EXPECT_EQ(result.status, 413) << result.failure;
  EXPECT_THAT(result.body, HasSubstr("larger than"));
  EXPECT_TRUE(client.post("/", std::string(8 << 20, 'x')).ok());
}

TEST(Http, LargeHeaderIsRefused) {
  const RunningServer server;
  EXPECT_EQ(Client(server.address()).get("/" + std::string(20'000, 'x')).status, 431);
}

TEST(Http, GarbageIsAnsweredOrDroppedAndHarmsNobody) {
  const RunningServer server;
  for (const std::string& text : {std::string("garbage\r\n\r\n"), std::string("GET / HTTP/9.9\r\n\r\n"),
                                  std::string("\x16\x03\x01\x02\x00\x01", 6) + "\r\n\r\n",
                                  std::string("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
                                  std::string("GET / HTTP/1.1\r\nA B: c\r\n\r\n")}) {
    RawConnection connection(server.port());
    connection.send(text);
    EXPECT_THAT(connection.read_to_end(), AllOf(StartsWith("HTTP/1.1 400 "), HasSubstr("\"error\""))) << text;
  }
  RawConnection(server.port()).send("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf");  // and gone
  EXPECT_TRUE(Client(server.address()).get("/").ok());
}

TEST(Http, TwoRequestsSentAtOnceGetTwoReplies) {
  const RunningServer server;
  RawConnection connection(server.port());
  connection.send("GET /one HTTP/1.1\r\n\r\nGET /two HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(connection.read_to_end(), AllOf(HasSubstr("/one"), HasSubstr("/two")));
}

TEST(Http, SlowClientIsDropped) {
  const RunningServer server(echo, 0, 1, milliseconds(100));
  RawConnection slow(server.port());
  slow.send("GET / HT");
  EXPECT_EQ(slow.read_to_end(), "");  // returns: the server closed it
  RawConnection silent(server.port());
  EXPECT_EQ(silent.read_to_end(), "");
}

TEST(Http, SilentServerIsAFailureInTime) {
  const SilentServer server;
  const auto begin = std::chrono::steady_clock::now();
  const Result result = Client(server.address(), "", milliseconds(200)).get("/v1/pipelines");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.failure, "GET /v1/pipelines at " + server.address() + ": no answer within 200 ms");
}

TEST(Http, ServerThatTalksForEverIsAFailureInTime) {
  SilentServer server;
  std::atomic<bool> done = false;
  std::thread talker([&] {
    tcp::socket socket = server.accept();
    boost::system::error_code error;
    asio::write(socket, asio::buffer(std::string("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")),
                error);
    while (!done && !error) {
      asio::write(socket, asio::buffer("x", 1), error);
      std::this_thread::yield();
    }
  });
  const Result result = Client(server.address(), "", milliseconds(200)).get("/");
  done = true;
  talker.join();
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.failure, AnyOf(HasSubstr("no answer within 200 ms"), HasSubstr("body limit")));
}

TEST(Http, NobodyListeningIsNamed) {
  std::string address;
  { address = SilentServer().address(); }
  EXPECT_EQ(Client(address).get("/").failure, "connect to " + address + ": Connection refused");
  EXPECT_THAT(Client("cosub-no-such-host.invalid:80").get("/").failure,
              StartsWith("connect to cosub-no-such-host.invalid:80: "));
}

TEST(Http, ServerStartedAgainBetweenTwoRequestsIsFound) {
  auto server = std::make_unique<RunningServer>();
  const std::uint16_t port = server->port();
  Client client(server->address());
  ASSERT_TRUE(client.post("/", "{}").ok());
  server.reset();
  server = std::make_unique<RunningServer>(echo, port);
  EXPECT_TRUE(client.post("/", "{}").ok());
  server.reset();
  EXPECT_THAT(client.post("/", "{}").failure, HasSubstr("Connection refused"));
}

TEST(Http, ContextDestroyedWithOpenConnectionsClosesThem) {  // and AddressSanitizer watches what is left
  auto context = std::make_unique<asio::io_context>();
  auto server = std::make_unique<Server>(asio::make_strand(context->get_executor()), "127.0.0.1", 0, echo);
  RawConnection open(server->port());
  open.send("GET / HT");
  context->run_for(milliseconds(50));
  server.reset();
  context.reset();
  EXPECT_EQ(open.read_to_end(), "");  // ends: the other side has let go
}

TEST(ParseAddress, TakesHostAndPort) {
  EXPECT_EQ(parse_address("node1:7070").text(), "node1:7070");
  EXPECT_EQ(parse_address("http://node1:7070/").host, "node1");
  EXPECT_EQ(parse_address("[::1]:80").host, "::1");
  EXPECT_EQ(parse_address("[::1]:80").text(), "[::1]:80");
}

TEST(ParseAddress, NamesWhatItCannotTake) {
  for (const char* text :
       {"", "node1", "node1:", "node1:0", "node1:65536", "node1:x", ":80", "https://node1:80", "::1:80",
        "node 1:80", "http://node1:80/path", "user@node1:80"})
    EXPECT_THAT([&] { parse_address(text); }, ThrowsMessage<ConfigError>(HasSubstr("must be host:port")))
        << text;
}

}  // namespace
}  // namespace cosub::http
