#include "coordinator/api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/atomic_file.h"
#include "common/http.h"
#include "tests/coordinator/rig.h"

namespace cosub::coordinator {
namespace {

using namespace cosub::testing;
using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kToken = "0123456789abcdef0123456789abcdef";

/// The API behind a real server on loopback, on a thread of its own; the rig is touched on the strand only.
class ApiTest : public ::testing::Test {
 protected:
  template <class Call>
  auto on_strand(Call call) {
    auto task = std::make_shared<std::packaged_task<decltype(call())()>>(call);
    auto result = task->get_future();
    boost::asio::post(strand_, [task] { (*task)(); });
    return result.get();
  }
  ApiTest() : thread_([this] { context_.run(); }) {}
  ~ApiTest() override {
    on_strand([this] { server_.stop(); });
    work_.reset();
    context_.stop();
    thread_.join();
  }

  http::Client client(const std::string& token = kToken) {
    return http::Client("127.0.0.1:" + std::to_string(server_.port()), token);
  }
  std::string submission(double lr = 1e-3) {
    return json{{"yaml", pipeline_yaml(rig_.folder / "runs", "{ranks: 2}", lr)}}.dump();
  }
  static std::string error_of(const http::Result& result) {
    return json::parse(result.body).at("error").get<std::string>();
  }
  /// The first job's spec and its token.
  std::pair<launcher::LaunchSpec, std::string> first_job() {
    return on_strand([this] {
      const launcher::LaunchSpec spec = rig_.cluster.jobs.at(0).spec;
      std::string token = read_file(spec.attempt_folder / "token");
      token.pop_back();
      return std::pair{spec, token};
    });
  }
  void tick() {
    on_strand([this] { rig_.tick(); });
  }
  static std::string report(const std::string& uuid) {
    protocol::Report message;
    message.uuid = uuid;
    message.attempt = 1;
    return protocol::dump(message);
  }

  Rig rig_;
  Api api_{*rig_.supervisor, kToken};
  boost::asio::io_context context_;
  boost::asio::strand<boost::asio::io_context::executor_type> strand_{context_.get_executor()};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{context_.get_executor()};
  http::Server server_{strand_, "127.0.0.1", 0,
                       [this](const http::Request& request) { return api_.handle(request); }};
  std::thread thread_;
};

TEST_F(ApiTest, AnswersHealthWithoutAToken) {
  EXPECT_EQ(client("").get("/healthz").status, 200);
}

TEST_F(ApiTest, RefusesEverythingElseWithoutTheRightToken) {
  for (const char* target : {"/v1/pipelines", "/v1/pipelines/p", "/v1/sd", "/metrics", "/nonsense"})
    for (const char* token : {"", "0123456789abcdef0123456789abcdee"}) {
      const http::Result result = client(token).get(target);
      EXPECT_EQ(result.status, 401) << target;
      EXPECT_THAT(error_of(result), HasSubstr("token"));
    }
}

TEST_F(ApiTest, NamesAnUnknownPipelineOrEndpoint) {
  EXPECT_EQ(client().get("/v1/pipelines/ghost").status, 404);
  EXPECT_THAT(error_of(client().get("/v1/pipelines/ghost")), HasSubstr("ghost"));
  EXPECT_EQ(client().post("/v1/pipelines/ghost/stop", "{\"now\":false,\"reason\":\"\"}").status, 404);
  EXPECT_EQ(client().get("/v1/nonsense").status, 404);
}

TEST_F(ApiTest, RefusesWhatIsNoJsonOrNoPipeline) {
  EXPECT_EQ(client().post("/v1/pipelines", "{").status, 400);
  EXPECT_EQ(client().post("/v1/pipelines", "{}").status, 400);
  const http::Result result = client().post("/v1/pipelines", json{{"yaml", "nome: p\n"}}.dump());
  EXPECT_EQ(result.status, 400);
  EXPECT_THAT(error_of(result), HasSubstr("nome"));
}

TEST_F(ApiTest, TakesTheSamePipelineTwiceAndAnotherOneNot) {
  EXPECT_EQ(client().post("/v1/pipelines", submission()).status, 200);
  EXPECT_EQ(client().post("/v1/pipelines", submission()).status, 200);
  EXPECT_EQ(json::parse(client().get("/v1/pipelines").body).size(), 1u);
  tick();
  const http::Result other = client().post("/v1/pipelines", submission(5e-3));
  EXPECT_EQ(other.status, 409);
  EXPECT_THAT(error_of(other), HasSubstr("--set name="));
}

TEST_F(ApiTest, ShowsStopsAndResumes) {
  client().post("/v1/pipelines", submission());
  tick();
  const auto view = protocol::parse<protocol::PipelineView>(client().get("/v1/pipelines/p").body);
  EXPECT_EQ(view.stages.at(0).state, "running");
  EXPECT_EQ(view.stages.at(1).name, "finetune");
  const http::Result stopped = client().post("/v1/pipelines/p/stop", "{\"now\":true,\"reason\":\"enough\"}");
  EXPECT_EQ(json::parse(stopped.body).at("state"), "stopping");
  tick();
  EXPECT_EQ(json::parse(client().get("/v1/pipelines/p").body).at("state"), "stopped");
  EXPECT_EQ(json::parse(client().post("/v1/pipelines/p/resume", "").body).at("state"), "running");
}

TEST_F(ApiTest, WantsAnAttemptsOwnTokenForItsReports) {
  client().post("/v1/pipelines", submission());
  tick();
  const auto [spec, token] = first_job();
  const std::string target = "/v1/attempts/" + spec.uuid + "/report";
  EXPECT_EQ(client().post(target, report(spec.uuid)).status, 401);
  EXPECT_EQ(client(token).post(target, "[").status, 400);
  EXPECT_EQ(client(token).post("/v1/attempts/nobody/report", report("nobody")).status, 404);
  const http::Result result = client(token).post(target, report(spec.uuid));
  EXPECT_EQ(result.status, 200);
  EXPECT_EQ(protocol::parse<protocol::Directive>(result.body).action, "none");
  EXPECT_EQ(client(token).get("/v1/pipelines").status, 401);
}

TEST_F(ApiTest, TellsAStaleAttemptThatItIsVoid) {
  client().post("/v1/pipelines", submission());
  tick();
  const auto [spec, token] = first_job();
  on_strand([this] { rig_.cluster.jobs[0].state = FakeJob::kEnded; });
  tick();
  const http::Result result = client(token).post("/v1/attempts/" + spec.uuid + "/report", report(spec.uuid));
  EXPECT_EQ(result.status, 410);
  EXPECT_EQ(protocol::parse<protocol::Directive>(result.body).action, "void");
  EXPECT_THAT(error_of(result), HasSubstr("void"));
}

TEST_F(ApiTest, ServesPrometheus) {
  EXPECT_EQ(client().get("/v1/sd").body, "[]");
  EXPECT_THAT(client().get("/metrics").body, HasSubstr("# TYPE cosub_coordinator_pipelines gauge"));
}

}  // namespace
}  // namespace cosub::coordinator
