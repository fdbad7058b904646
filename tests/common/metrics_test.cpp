#include "common/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/http.h"
#include "common/process.h"
#include "tests/support/temporary_folder.h"

namespace cosub {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

void fill(Metrics& metrics) {
  metrics.counter("cosub_images_total", "Images trained on").Increment(128);
  metrics.gauge("cosub_loss", "Loss of the last step", {{"half", "1"}}).Set(0.5);
  metrics.gauge("cosub_loss", "Loss of the last step", {{"half", "2"}}).Set(0.25);
  metrics.histogram("cosub_step_seconds", "Seconds per step", {0.1, 1, 10}).Observe(0.3);
}

TEST(Metrics, ServesItsPageOnAFreePort) {
  Metrics metrics("127.0.0.1", 0, {{"rank", "3"}});
  fill(metrics);
  ASSERT_GT(metrics.port(), 0);
  const http::Result page = http::Client("127.0.0.1:" + std::to_string(metrics.port())).get("/metrics");
  EXPECT_EQ(page.status, 200);
  for (const std::string& text : {page.body, metrics.text()}) {
    EXPECT_THAT(text, HasSubstr("cosub_images_total{rank=\"3\"} 128"));
    EXPECT_THAT(text, HasSubstr("cosub_step_seconds_count{rank=\"3\"} 1"));
    EXPECT_THAT(text, HasSubstr("half=\"2\""));
  }
}

TEST(Metrics, HasNoOtherPage) {
  const Metrics metrics("127.0.0.1", 0, {});
  http::Client client("127.0.0.1:" + std::to_string(metrics.port()));
  EXPECT_EQ(client.get("/").status, 404);
  EXPECT_EQ(client.post("/metrics", "").status, 405);
}

TEST(Metrics, SameNameAndLabelsAreTheSameMetric) {
  Metrics metrics("127.0.0.1", 0, {});
  EXPECT_EQ(&metrics.gauge("a", "A", {{"x", "1"}}), &metrics.gauge("a", "A", {{"x", "1"}}));
  EXPECT_NE(&metrics.gauge("a", "A", {{"x", "1"}}), &metrics.gauge("a", "A", {{"x", "2"}}));
}

TEST(Metrics, PagePassesPromtool) {
  const testing::TemporaryFolder folder;
  Metrics metrics("127.0.0.1", 0, {{"job_uuid", "u"}, {"rank", "0"}});
  fill(metrics);
  write_file_atomically(folder / "page", metrics.text());
  const auto check = [&] {
    const ProcessId process =
        spawn({.argv = {"sh", "-c", "promtool check metrics < \"$1\"", "sh", folder / "page"},
               .output = folder / "output"});
    return wait_for_exit(process.pid, std::chrono::seconds(60));
  };
  EXPECT_EQ(check(), 0) << read_file(folder / "output");
  metrics.counter("cosub_wrong", "A counter whose name does not end in _total");
  write_file_atomically(folder / "page", metrics.text());
  EXPECT_NE(check(), 0) << "promtool accepts everything";
}

TEST(Metrics, TakenPortIsNamedWithARemedy) {
  const Metrics first("127.0.0.1", 0, {});
  EXPECT_THAT(
      [&] { Metrics second("127.0.0.1", first.port(), {}); },
      ThrowsMessage<IoError>(AllOf(HasSubstr("127.0.0.1:" + std::to_string(first.port())),
                                   HasSubstr("Address already in use"), HasSubstr("choose another"))));
  EXPECT_THROW(Metrics("192.0.2.1", 0, {}), IoError);  // an address of nobody (RFC 5737)
}

TEST(Metrics, TakesUpdatesFromManyThreadsWhileItIsRead) {
  Metrics metrics("127.0.0.1", 0, {});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&metrics, i] {
      prometheus::Counter& shared = metrics.counter("shared_total", "S");
      prometheus::Gauge& own = metrics.gauge("own", "O", {{"thread", std::to_string(i)}});
      for (int n = 0; n < 1000; ++n) {
        shared.Increment();
        own.Set(n);
      }
    });
  http::Client client("127.0.0.1:" + std::to_string(metrics.port()));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.get("/metrics").status, 200);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(metrics.counter("shared_total", "S").Value(), 4000);
}

}  // namespace
}  // namespace cosub
