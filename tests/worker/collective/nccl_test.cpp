// NCCL on one rank, where there is a GPU: the order of streams, the exchange beside the computation, CUDA
// graphs, and what becomes of an operation that does not end.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "common/error.h"
#include "worker/collective/nccl_communicator.h"
#include "worker/collective/reduction/step_reduction.h"
#include "worker/collective/single_communicator.h"

namespace cosub::collective {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// Says that it is rank 0 of two, the other of which adds the same: an all-reduce doubles, on the current
/// stream, and then goes through NCCL.
class DoublingCommunicator final : public Communicator {
 public:
  explicit DoublingCommunicator(std::shared_ptr<Communicator> through) : through_(std::move(through)) {}
  std::int64_t rank() const override { return 0; }
  std::int64_t world_size() const override { return 2; }
  std::int64_t local_rank() const override { return 0; }
  std::string name() const override { return "doubling"; }
  void all_reduce_sum(at::Tensor& tensor, const std::string& what) override {
    tensor.mul_(2);
    through_->all_reduce_sum(tensor, what);
  }
  void all_reduce_sum_buckets(std::vector<at::Tensor>&, const std::string&) override { std::abort(); }
  void broadcast(at::Tensor&, std::int64_t, const std::string&) override { std::abort(); }
  void all_to_all(const std::vector<at::Tensor>&, std::vector<at::Tensor>&, const std::string&) override {
    std::abort();
  }
  void all_gather(const at::Tensor&, std::vector<at::Tensor>&, const std::string&) override { std::abort(); }
  std::vector<std::string> all_gather_text(const std::string& mine, const std::string&) override {
    return {mine, mine};
  }
  void barrier(const std::string&) override {}
  std::unique_ptr<Communicator> split(std::int64_t, const std::string& what) override {
    return std::make_unique<DoublingCommunicator>(through_->split(0, what));
  }
  bool concurrent() const override { return false; }
  [[noreturn]] void abort(int exit_code) override { std::_Exit(exit_code); }

 private:
  std::shared_ptr<Communicator> through_;
};

/// Keeps a stream from going on until it is opened.
class Gate {
 public:
  ~Gate() { open(); }
  void hold(cudaStream_t stream) {
    ASSERT_EQ(cudaLaunchHostFunc(
                  stream, [](void* gate) { static_cast<Gate*>(gate)->opened_.get_future().wait(); }, this),
              cudaSuccess);
  }
  void open() {
    if (!std::exchange(is_open_, true)) opened_.set_value();
  }

 private:
  std::promise<void> opened_;
  bool is_open_ = false;
};

class NcclTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!gpu_present()) GTEST_SKIP() << "NCCL was not run: this host has no GPU";
    single_.set_limit(std::chrono::seconds(60));
    nccl_ = std::make_shared<NcclCommunicator>(single_);
    nccl_->queue_also_alone();
  }

  at::TensorOptions on_gpu() { return at::dtype(at::kFloat).device(at::kCUDA, 0); }
  /// Some tens of milliseconds of work for the current stream that end in ones.
  at::Tensor slow_ones(std::int64_t size) {
    at::Tensor square = at::full({4096, 4096}, 1.0 / 4096, on_gpu());
    for (int i = 0; i < 30; ++i) square = square.matmul(square);
    return (square.view(-1).narrow(0, 0, size) * 4096).round();
  }
  /// What check() throws within ten seconds; "" when nothing.
  std::string error_of_check(Communicator& communicator) {
    for (int i = 0; i < 1000; ++i) {
      try {
        communicator.check();
      } catch (const CollectiveError& error) {
        return error.what();
      }
      std::this_thread::sleep_for(milliseconds(10));  // for the thread that looks ten times a second
    }
    return "";
  }

  SingleCommunicator single_;
  std::shared_ptr<NcclCommunicator> nccl_;
};

TEST_F(NcclTest, ResultsAreInTheOrderOfTheStream) {
  at::Tensor sum = slow_ones(1000);
  nccl_->all_reduce_sum(sum, "test");
  sum.add_(1);
  EXPECT_TRUE(sum.cpu().eq(2).all().item<bool>());
  nccl_->check();
}

TEST_F(NcclTest, AnOperationReturnsBeforeTheGpuComesToIt) {
  Gate gate;
  at::Tensor sum = at::ones({1000}, on_gpu());
  gate.hold(c10::cuda::getCurrentCUDAStream().stream());
  nccl_->all_reduce_sum(sum, "test");
  nccl_->all_reduce_sum(sum, "test");
  gate.open();
  EXPECT_TRUE(sum.cpu().eq(1).all().item<bool>());
}

TEST_F(NcclTest, EveryOperationRunsOnOneRank) {
  for (const auto type : {at::kFloat, at::kDouble, at::kLong, at::kByte}) {
    const at::Tensor values = at::arange(11, on_gpu().dtype(at::kLong)).to(type);
    at::Tensor tensor = values.clone();
    std::vector<at::Tensor> buckets = {tensor.narrow(0, 0, 5), tensor.narrow(0, 5, 6)};
    std::vector<at::Tensor> received = {at::zeros_like(values)}, gathered = {at::zeros_like(values)};
    nccl_->all_reduce_sum_buckets(buckets, "test");
    nccl_->broadcast(tensor, 0, "test");
    nccl_->all_to_all({tensor}, received, "test");
    nccl_->all_gather(tensor, gathered, "test");
    for (const at::Tensor& result : {tensor, received[0], gathered[0]})
      EXPECT_TRUE(at::equal(result.cpu(), values.cpu())) << at::toString(type);
  }
  EXPECT_EQ(nccl_->all_gather_text("alone", "test"), std::vector<std::string>{"alone"});
  nccl_->barrier("test");
}

TEST_F(NcclTest, LaunchesOfSeveralCommunicatorsAreOrderedUnlessTheUserSaysOtherwise) {
  ASSERT_NE(std::getenv("NCCL_LAUNCH_ORDER_IMPLICIT"), nullptr);
  const auto part = nccl_->split(0, "test");
  const c10::cuda::CUDAStream side = c10::cuda::getStreamFromPool(/*isHighPriority=*/true, 0);
  at::Tensor here = at::ones({1000}, on_gpu()), there = at::ones({1000}, on_gpu());
  c10::cuda::device_synchronize();
  for (int i = 0; i < 20; ++i) {
    nccl_->all_reduce_sum(here, "test");
    const c10::cuda::CUDAStreamGuard guard(side);
    part->all_reduce_sum(there, "test");
  }
  c10::cuda::device_synchronize();
  EXPECT_TRUE(here.eq(1).logical_and(there.eq(1)).all().item<bool>());
}

ReductionOptions two_buckets(const at::TensorOptions& tensor) {
  return {.kind = config::Reduction::kFast,
          .num_microbatches = 2,
          .size = 1000,
          .tensor = tensor,
          .buckets = {{400, 1000}, {0, 400}},
          .overlap = true};
}

TEST_F(NcclTest, BucketsTravelBesideTheStreamThatComputes) {
  DoublingCommunicator two_ranks(nccl_);
  const auto reduction = make_step_reduction(two_ranks, two_buckets(on_gpu()));
  ASSERT_TRUE(reduction->overlaps());
  at::Tensor leaf = at::zeros({1000}, on_gpu());
  for (std::int64_t step = 0; step < 5; ++step) {
    reduction->begin(step);
    leaf.zero_();
    reduction->add_last(0, leaf);
    leaf.narrow(0, 400, 600).copy_(slow_ones(600));
    reduction->ready(0);
    leaf.narrow(0, 0, 400).copy_(slow_ones(400) * 3);
    reduction->ready(1);
    const at::Tensor sum = (reduction->finish() + 1).cpu();
    EXPECT_TRUE(sum.narrow(0, 0, 400).eq(7).all().item<bool>()) << step;
    EXPECT_TRUE(sum.narrow(0, 400, 600).eq(3).all().item<bool>()) << step;
  }
  nccl_->check();
}

/// On a stream that may be captured, as the default one may not.
class NcclGraphTest : public NcclTest {
 protected:
  void SetUp() override {
    NcclTest::SetUp();
    if (IsSkipped()) return;
    stream_ = c10::cuda::getStreamFromPool(/*isHighPriority=*/false, 0);
    guard_.emplace(*stream_);
  }
  void capture(at::cuda::CUDAGraph& graph, const std::function<void()>& work) {
    work();  // libraries take their workspaces
    c10::cuda::device_synchronize();
    graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    work();
    graph.capture_end();
  }
  std::optional<c10::cuda::CUDAStream> stream_;
  std::optional<c10::cuda::CUDAStreamGuard> guard_;
};

TEST_F(NcclGraphTest, AnAllReduceIsCapturedAndReplayed) {
  at::Tensor sum = at::zeros({1000}, on_gpu());
  at::cuda::CUDAGraph graph;
  capture(graph, [&] {
    sum.add_(1);
    nccl_->all_reduce_sum(sum, "step 0");
    sum.mul_(2);
  });
  sum.zero_();
  for (std::int64_t step = 1; step <= 3; ++step) {
    nccl_->set_step(step);
    graph.replay();
  }
  EXPECT_TRUE(sum.cpu().eq(14).all().item<bool>());
  nccl_->check();
}

TEST_F(NcclGraphTest, AStepOfTheReductionIsCapturedAndReplayed) {
  DoublingCommunicator two_ranks(nccl_);
  const auto reduction = make_step_reduction(two_ranks, two_buckets(on_gpu()));
  at::Tensor leaf = at::zeros({1000}, on_gpu()), value = at::ones({}, on_gpu()), sum;
  at::cuda::CUDAGraph graph;
  capture(graph, [&] {
    reduction->begin(0);
    leaf.copy_(value.expand({1000}));
    reduction->add_last(0, leaf);
    reduction->ready(0);
    reduction->ready(1);
    sum = reduction->finish();
  });
  for (std::int64_t step = 1; step <= 3; ++step) {
    value.fill_(static_cast<double>(step));
    graph.replay();
    EXPECT_TRUE(sum.cpu().eq(2.0 * static_cast<double>(step)).all().item<bool>()) << step;
  }
  nccl_->check();
}

TEST_F(NcclTest, ACommunicatorEndsWithWhatItHasQueued) {
  at::Tensor sum = slow_ones(1000);
  {
    const auto part = nccl_->split(0, "test");
    part->all_reduce_sum(sum, "test");
  }
  nccl_->all_reduce_sum(sum, "test");
  nccl_.reset();
  EXPECT_TRUE(sum.cpu().eq(1).all().item<bool>());
}

TEST_F(NcclTest, AnOperationThatDoesNotEndIsReportedAndEveryLaterCallFailsAlike) {
  Gate gate;
  nccl_->set_before_end([&](cudaStream_t stream) { gate.hold(stream); });
  const auto part = nccl_->split(0, "test");
  nccl_->set_limit(milliseconds(300));
  at::Tensor sum = at::ones({1000}, on_gpu());
  const auto start = std::chrono::steady_clock::now();
  nccl_->all_reduce_sum(sum, "step 12, bucket 3 of 5");
  nccl_->check();
  const std::string error = error_of_check(*nccl_);
  EXPECT_THAT(
      error,
      AllOf(HasSubstr("rank 0 of 1 on "),
            HasSubstr(" waited 300 ms for the other ranks in all_reduce_sum (step 12, bucket 3 of 5)")));
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(300));
  EXPECT_THROW(nccl_->all_reduce_sum(sum, "step 13"), CollectiveError);
  EXPECT_THROW(nccl_->barrier("step 13"), CollectiveError);
  EXPECT_THROW(part->check(), CollectiveError);
  EXPECT_THROW(part->all_reduce_sum(sum, "step 13"), CollectiveError);
  gate.open();
  c10::cuda::device_synchronize();  // comes back
}

TEST_F(NcclTest, TimeCountsFromWhenTheGpuComesToAnOperation) {
  Gate gate;
  nccl_->set_limit(milliseconds(300));
  at::Tensor sum = at::ones({1000}, on_gpu());
  gate.hold(c10::cuda::getCurrentCUDAStream().stream());
  nccl_->all_reduce_sum(sum, "test");
  std::this_thread::sleep_for(milliseconds(900));  // three limits
  nccl_->check();
  gate.open();
  c10::cuda::device_synchronize();
  nccl_->check();
}

TEST_F(NcclGraphTest, AReplayThatDoesNotEndIsNamedByItsStep) {
  Gate gate;
  at::Tensor sum = at::zeros({1000}, on_gpu());
  at::cuda::CUDAGraph graph;
  bool captures = false;
  nccl_->set_before_end([&](cudaStream_t stream) {
    if (captures) gate.hold(stream);
  });
  nccl_->all_reduce_sum(sum, "step 3, bucket 1 of 1");
  c10::cuda::device_synchronize();
  captures = true;
  graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
  nccl_->all_reduce_sum(sum, "step 3, bucket 1 of 1");
  graph.capture_end();
  nccl_->set_limit(milliseconds(300));
  nccl_->set_step(57);
  graph.replay();
  EXPECT_THAT(error_of_check(*nccl_), HasSubstr("in all_reduce_sum (step 57, bucket 1 of 1)"));
  gate.open();
  c10::cuda::device_synchronize();
}

}  // namespace
}  // namespace cosub::collective
