// The exchange beside the computation as a GPU gets it, on a device that only writes down what is queued on
// which of its streams. Its tensors are LibTorch's meta tensors: shapes without numbers.
#include "worker/collective/reduction/exchange_stream.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "worker/collective/communicator.h"
#include "worker/collective/reduction/step_reduction.h"

namespace cosub::collective {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Log = std::vector<std::string>;

constexpr c10::StreamId kComputing = 0, kFromPool = 7;
const at::Device kDevice(at::kMeta, 0);

/// LibTorch's view of the device.
class WrittenDevice final : public c10::impl::DeviceGuardImplInterface {
 public:
  at::DeviceType type() const override { return at::kMeta; }
  at::Device exchangeDevice(at::Device) const override { return kDevice; }
  at::Device getDevice() const override { return kDevice; }
  void setDevice(at::Device) const override {}
  void uncheckedSetDevice(at::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Stream getStream(at::Device) const override { return stream(current_); }
  c10::Stream exchangeStream(c10::Stream next) const override {
    return stream(std::exchange(current_, next.id()));
  }
  c10::Stream getStreamFromGlobalPool(at::Device, bool is_high_priority) const override {
    EXPECT_TRUE(is_high_priority);
    return stream(kFromPool);
  }
  void record(void** event, const c10::Stream& on, c10::DeviceIndex, c10::EventFlag) const override {
    if (*event == nullptr) *event = reinterpret_cast<void*>(++num_events_);
    log_.push_back(fmt::format("event {} on {}", number_of(*event), on.id()));
  }
  void block(void* event, const c10::Stream& stream) const override {
    log_.push_back(fmt::format("{} waits for event {}", stream.id(), number_of(event)));
  }

  /// On the current stream.
  void write(const std::string& what) const { log_.push_back(fmt::format("{} on {}", what, current_)); }
  Log take_log() const { return std::exchange(log_, {}); }
  c10::StreamId current() const { return current_; }

 private:
  static c10::Stream stream(c10::StreamId id) { return c10::Stream(c10::Stream::UNSAFE, kDevice, id); }
  static std::uintptr_t number_of(void* event) { return reinterpret_cast<std::uintptr_t>(event); }
  mutable c10::StreamId current_ = kComputing;
  mutable std::uintptr_t num_events_ = 0;
  mutable Log log_;
};

/// Rank 0 of two, whose other rank always comes.
class WrittenCommunicator final : public Communicator {
 public:
  explicit WrittenCommunicator(const WrittenDevice& device) : device_(device) {}
  std::int64_t rank() const override { return 0; }
  std::int64_t world_size() const override { return 2; }
  std::int64_t local_rank() const override { return 0; }
  std::string name() const override { return "written"; }
  void all_reduce_sum(at::Tensor&, const std::string& what) override { queue("all_reduce_sum", what); }
  void all_reduce_sum_buckets(std::vector<at::Tensor>&, const std::string& what) override {
    queue("all_reduce_sum_buckets", what);
  }
  void broadcast(at::Tensor&, std::int64_t, const std::string& what) override { queue("broadcast", what); }
  void all_to_all(const std::vector<at::Tensor>&, std::vector<at::Tensor>&,
                  const std::string& what) override {
    queue("all_to_all", what);
  }
  void all_gather(const at::Tensor&, std::vector<at::Tensor>&, const std::string& what) override {
    queue("all_gather", what);
  }
  std::vector<std::string> all_gather_text(const std::string& mine, const std::string&) override {
    return {mine, mine};
  }
  void barrier(const std::string&) override {}
  std::unique_ptr<Communicator> split(std::int64_t, const std::string&) override {
    auto part = std::make_unique<WrittenCommunicator>(device_);
    part->fails_ = fails_;
    return part;
  }
  bool concurrent() const override { return false; }
  [[noreturn]] void abort(int exit_code) override { std::_Exit(exit_code); }
  void fail_from_now_on() { *fails_ = true; }

 private:
  void queue(const std::string& operation, const std::string& what) {
    if (*fails_) throw CollectiveError("failed in " + operation);
    device_.write(fmt::format("{} ({})", operation, what));
  }
  const WrittenDevice& device_;
  std::shared_ptr<bool> fails_ = std::make_shared<bool>(false);
};

class ExchangeStreamTest : public ::testing::Test {
 protected:
  ExchangeStreamTest() : before_(slot().exchange(&device_)) {}
  ~ExchangeStreamTest() override { slot().store(before_); }

  std::unique_ptr<StepReduction> reduction(ReductionOptions options) {
    options.num_microbatches = 2;
    options.size = 10;
    options.tensor = at::dtype(at::kFloat).device(at::kMeta);
    options.buckets = {{6, 10}, {0, 6}};
    options.overlap = true;
    return make_step_reduction(communicator_, options);
  }
  at::Tensor leaf() { return at::empty({10}, at::dtype(at::kFloat).device(at::kMeta)); }

  WrittenDevice device_;
  WrittenCommunicator communicator_{device_};

 private:
  static std::atomic<const c10::impl::DeviceGuardImplInterface*>& slot() {
    return c10::impl::device_guard_impl_registry[static_cast<std::size_t>(at::kMeta)];
  }
  const c10::impl::DeviceGuardImplInterface* before_;
};

TEST_F(ExchangeStreamTest, work_comes_after_what_the_current_stream_has_and_before_what_it_gets) {
  ExchangeStream stream(kDevice);
  device_.write("gradients");
  stream.queue([this] { device_.write("exchange"); });
  device_.write("more gradients");
  stream.join();
  device_.write("update");
  EXPECT_THAT(device_.take_log(),
              ElementsAre("gradients on 0", "event 1 on 0", "7 waits for event 1", "exchange on 7",
                          "more gradients on 0", "event 2 on 7", "0 waits for event 2", "update on 0"));
}

TEST_F(ExchangeStreamTest, a_stream_without_work_is_not_waited_for) {
  ExchangeStream stream(kDevice);
  stream.join();
  EXPECT_THAT(device_.take_log(), IsEmpty());
  stream.queue([] {});
  stream.join();
  device_.take_log();
  stream.join();
  EXPECT_THAT(device_.take_log(), IsEmpty());
}

TEST_F(ExchangeStreamTest, buckets_are_exchanged_beside_the_stream_that_computes) {
  const auto sums = reduction({.kind = config::Reduction::kFast});
  EXPECT_TRUE(sums->overlaps());
  for (std::int64_t step = 5; step < 7; ++step) {
    sums->begin(step);
    sums->add_last(0, leaf());
    sums->ready(0);
    device_.write("gradients");
    sums->ready(1);
    sums->finish();
    device_.write("update");
    EXPECT_THAT(device_.take_log(),
                ElementsAre("event 1 on 0", "7 waits for event 1",
                            fmt::format("all_reduce_sum (step {}, bucket 1 of 2) on 7", step),
                            "gradients on 0", "event 1 on 0", "7 waits for event 1",
                            fmt::format("all_reduce_sum (step {}, bucket 2 of 2) on 7", step), "event 2 on 7",
                            "0 waits for event 2", "update on 0"));
  }
}

TEST_F(ExchangeStreamTest, what_is_not_ready_is_exchanged_by_finish_and_waited_for_too) {
  const auto sums = reduction({.kind = config::Reduction::kFast});
  sums->begin(1);
  sums->add(0, leaf());
  sums->finish();
  const Log log = device_.take_log();
  ASSERT_GE(log.size(), 2U);
  EXPECT_EQ(log[log.size() - 2], "event 2 on 7");
  EXPECT_EQ(log.back(), "0 waits for event 2");
}

TEST_F(ExchangeStreamTest, every_kind_of_exchange_stays_on_its_stream) {
  for (const ReductionOptions& options :
       {ReductionOptions{.kind = config::Reduction::kOrdered},
        ReductionOptions{.kind = config::Reduction::kFast, .compress = true, .first_exact = 6}}) {
    const auto sums = reduction(options);
    sums->begin(1);
    sums->add_last(0, leaf());
    sums->finish();
    std::size_t collectives = 0;
    for (const std::string& line : device_.take_log()) {
      if (line.find("all_") == std::string::npos) continue;
      ++collectives;
      EXPECT_THAT(line, ::testing::EndsWith(" on 7"));
    }
    EXPECT_GE(collectives, 3U);
  }
}

TEST_F(ExchangeStreamTest, buckets_are_told_as_they_are_queued_and_no_time_is_claimed) {
  std::vector<std::int64_t> told;
  const auto sums = reduction(
      {.kind = config::Reduction::kFast,
       .on_bucket = [&](std::int64_t, std::int64_t bucket, std::int64_t) { told.push_back(bucket); }});
  sums->begin(1);
  sums->add_last(0, leaf());
  sums->ready(0);
  EXPECT_THAT(told, ElementsAre(0));
  sums->finish();
  EXPECT_THAT(told, ElementsAre(0, 1));
  EXPECT_EQ(sums->take_exchange_time().count(), 0);
}

TEST_F(ExchangeStreamTest, an_error_comes_out_of_ready_and_the_current_stream_is_as_before) {
  const auto sums = reduction({.kind = config::Reduction::kFast});
  sums->begin(1);
  sums->add_last(0, leaf());
  communicator_.fail_from_now_on();
  EXPECT_THROW(sums->ready(0), CollectiveError);
  EXPECT_EQ(device_.current(), kComputing);
}

}  // namespace
}  // namespace cosub::collective
