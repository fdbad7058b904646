// The reporter against a coordinator of this test's own.
#include "worker/train/reporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/executor_work_guard.hpp>
#include <condition_variable>
#include <mutex>

#include "common/atomic_file.h"
#include "tests/support/temporary_folder.h"
#include "worker/train/stop_flag.h"

namespace cosub::train {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;

/// Answers every report with the directive it was given; remembers the reports.
class FakeCoordinator {
 public:
  explicit FakeCoordinator(std::int64_t generation) : generation_(generation) {
    server_.emplace(asio::make_strand(context_.get_executor()), "127.0.0.1", 0,
                    [this](const http::Request& request) { return answer(request); });
    thread_ = std::thread([this] { context_.run(); });
  }
  ~FakeCoordinator() {
    context_.stop();
    thread_.join();
    server_->stop();
  }

  std::string address() const { return "127.0.0.1:" + std::to_string(server_->port()); }
  void direct(const std::string& action) {
    std::lock_guard lock(mutex_);
    action_ = action;
  }
  /// The first report from now on for which `wanted` holds.
  protocol::Report wait_for(const std::function<bool(const protocol::Report&)>& wanted) {
    std::unique_lock lock(mutex_);
    bool came = arrived_.wait_for(lock, 20s, [&] { return !reports_.empty() && wanted(reports_.back()); });
    if (!came) throw std::runtime_error("no such report within 20 s");
    return reports_.back();
  }
  std::string last_token() {
    std::lock_guard lock(mutex_);
    return token_;
  }

 private:
  http::Response answer(const http::Request& request) {
    std::lock_guard lock(mutex_);
    token_ = request.bearer_token;
    reports_.push_back(protocol::parse<protocol::Report>(request.body));
    arrived_.notify_all();
    return {.status = 200,
            .body = protocol::dump(protocol::Directive{.action = action_, .generation = generation_})};
  }

  std::int64_t generation_;
  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_{context_.get_executor()};
  std::optional<http::Server> server_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<protocol::Report> reports_;
  std::string action_ = "none", token_;
};

class ReporterTest : public ::testing::Test {
 protected:
  ReporterTest() { std::filesystem::create_directories(attempt_folder()); }
  ~ReporterTest() override { clear_stop(); }

  std::filesystem::path attempt_folder() { return stage_.attempt(1); }
  void point_at(const FakeCoordinator& coordinator, std::int64_t generation) {
    write_coordinator(stage_, {.address = coordinator.address(), .generation = generation});
  }
  std::unique_ptr<Reporter> reporter() {
    return std::make_unique<Reporter>(Reporter::Options{.stage = stage_,
                                                        .attempt_folder = attempt_folder(),
                                                        .uuid = "u-1",
                                                        .attempt = 1,
                                                        .token = "secret",
                                                        .every = 20ms,
                                                        .status_every = 10ms},
                                      std::vector<std::string>{"127.0.0.1:1", "127.0.0.1:2"});
  }
  static protocol::Progress at_step(std::int64_t step, const std::string& phase = "training") {
    protocol::Progress progress;
    progress.phase = phase;
    progress.step = step;
    return progress;
  }

  testing::TemporaryFolder folder_;
  StageFolder stage_{folder_.path()};
};

TEST_F(ReporterTest, TellsStepAndAddressesWithTheToken) {
  FakeCoordinator coordinator(5);
  point_at(coordinator, 5);
  auto reporting = reporter();
  reporting->update(at_step(12));
  protocol::Report report = coordinator.wait_for([](const auto& r) { return r.progress.step == 12; });
  EXPECT_EQ(report.uuid, "u-1");
  EXPECT_EQ(report.attempt, 1);
  EXPECT_EQ(report.metrics_addresses.size(), 2u);
  EXPECT_EQ(coordinator.last_token(), "secret");
  coordinator.wait_for([](const auto& r) { return r.generation == 5; });
}

TEST_F(ReporterTest, StopsWhenTheCoordinatorAsks) {
  FakeCoordinator coordinator(1);
  point_at(coordinator, 1);
  auto reporting = reporter();
  coordinator.wait_for([](const auto&) { return true; });
  EXPECT_FALSE(stop_requested());
  coordinator.direct("stop");
  auto deadline = std::chrono::steady_clock::now() + 20s;
  while (!stop_requested() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  EXPECT_TRUE(stop_requested());
}

TEST_F(ReporterTest, FindsARestartedCoordinatorAtItsNewAddress) {
  auto first = std::make_unique<FakeCoordinator>(1);
  point_at(*first, 1);
  auto reporting = reporter();
  first->wait_for([](const auto&) { return true; });
  first.reset();
  FakeCoordinator second(2);
  point_at(second, 2);
  reporting->update(at_step(7));
  EXPECT_EQ(second.wait_for([](const auto& r) { return r.progress.step == 7; }).progress.step, 7);
}

TEST_F(ReporterTest, WritesStatusWithoutAnyCoordinator) {
  {
    auto reporting = reporter();
    reporting->update(at_step(3, "done"));
  }
  auto report = protocol::parse<protocol::Report>(read_file(attempt_folder() / "status.json"));
  EXPECT_EQ(report.progress.step, 3);
  EXPECT_EQ(report.progress.phase, "done");
}

TEST_F(ReporterTest, SaysTheLastWordBeforeItEnds) {
  FakeCoordinator coordinator(1);
  point_at(coordinator, 1);
  {
    auto reporting = reporter();
    reporting->update(at_step(90, "done"));
  }
  EXPECT_EQ(coordinator.wait_for([](const auto& r) { return r.progress.phase == "done"; }).progress.step, 90);
}

using ReporterDeathTest = ReporterTest;

TEST_F(ReporterDeathTest, AVoidAttemptEndsAtOnce) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        FakeCoordinator coordinator(1);
        point_at(coordinator, 1);
        coordinator.direct("void");
        auto reporting = reporter();
        std::this_thread::sleep_for(20s);  // ended long before
      },
      ::testing::ExitedWithCode(1), "");
}

}  // namespace
}  // namespace cosub::train
