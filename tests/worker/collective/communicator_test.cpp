// Every operation on the job's ranks against what each rank can compute alone. Runs under mpirun.
#include "worker/collective/communicator.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>

#include "tests/worker/collective/mpi_world.h"
#include "worker/collective/mpi_communicator.h"
#include "worker/collective/single_communicator.h"

namespace cosub::collective {
namespace {

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kDouble, at::kLong, at::kByte};

// What rank r puts in: small whole numbers, so that sums are exact in every type.
at::Tensor values_of(std::int64_t rank, std::int64_t size, at::ScalarType type) {
  return (at::arange(size, at::kLong).remainder(7) + rank + 1).to(type);
}

// While it lives this process can open no file, shared memory included.
class NoFiles {
 public:
  NoFiles() {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit none = {.rlim_cur = 0, .rlim_max = before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  ~NoFiles() { EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before_), 0); }

 private:
  rlimit before_{};
};

// The job's communicator, and a second one that sends everything in pieces of 3 elements (as beyond 2^30
// elements) and whose ranks share memory in pairs (as on several hosts). A third: its last rank can share no
// memory.
class OperationsTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (GetParam() == std::string("whole")) return;
    if (GetParam() == std::string("no_memory")) {
      std::optional<NoFiles> none;
      if (testing::world().rank() == testing::world().world_size() - 1) none.emplace();
      other_ = std::make_unique<MpiCommunicator>(std::chrono::seconds(60));
      return;
    }
    other_ = std::make_unique<MpiCommunicator>(std::chrono::minutes(5),
                                               MpiCommunicator::Options{.max_count = 3, .max_sharing = 2});
    other_->set_limit(std::chrono::seconds(60));
  }
  Communicator& communicator() { return other_ ? *other_ : testing::world(); }
  std::int64_t rank() { return communicator().rank(); }
  std::int64_t world_size() { return communicator().world_size(); }

 private:
  std::unique_ptr<MpiCommunicator> other_;
};

TEST_P(OperationsTest, all_reduce_sums_in_every_type_and_size) {
  for (const auto type : kTypes) {
    for (const std::int64_t size : {0, 1, 2, 3, 1000}) {
      auto tensor = values_of(rank(), size, type);
      communicator().all_reduce_sum(tensor, "test");
      auto expected = at::zeros({size}, type);
      for (std::int64_t r = 0; r < world_size(); ++r) expected += values_of(r, size, type);
      EXPECT_TRUE(at::equal(tensor, expected)) << at::toString(type) << " of " << size;
    }
  }
}

TEST_P(OperationsTest, buckets_are_summed_each_in_its_place) {
  auto flat = values_of(rank(), 10, at::kFloat);
  std::vector<at::Tensor> buckets = {flat.narrow(0, 0, 4), flat.narrow(0, 4, 4), flat.narrow(0, 8, 2)};
  communicator().all_reduce_sum_buckets(buckets, "test");
  auto expected = at::zeros({10}, at::kFloat);
  for (std::int64_t r = 0; r < world_size(); ++r) expected += values_of(r, 10, at::kFloat);
  EXPECT_TRUE(at::equal(flat, expected));
}

TEST_P(OperationsTest, broadcast_gives_everyone_the_values_of_any_root) {
  for (const auto type : kTypes) {
    for (std::int64_t root = 0; root < world_size(); ++root) {
      auto tensor = values_of(rank(), 11, type);
      communicator().broadcast(tensor, root, "test");
      EXPECT_TRUE(at::equal(tensor, values_of(root, 11, type))) << at::toString(type) << " from " << root;
    }
  }
}

// What `from` sends to `to` differs by pair in size (0 included) and values.
at::Tensor letter(std::int64_t from, std::int64_t to, at::ScalarType type) {
  return values_of(10 * from + to, (2 * from + 3 * to) % 8, type);
}

TEST_P(OperationsTest, all_to_all_delivers_parts_of_different_sizes) {
  for (const auto type : kTypes) {
    std::vector<at::Tensor> send, recv;
    for (std::int64_t r = 0; r < world_size(); ++r) {
      send.push_back(letter(rank(), r, type));
      recv.push_back(at::zeros_like(letter(r, rank(), type)));
    }
    communicator().all_to_all(send, recv, "test");
    for (std::int64_t r = 0; r < world_size(); ++r) EXPECT_TRUE(at::equal(recv[r], letter(r, rank(), type)));
  }
}

TEST_P(OperationsTest, all_to_all_takes_ones_own_part_in_place) {
  std::vector<at::Tensor> send, recv;
  for (std::int64_t r = 0; r < world_size(); ++r) {
    send.push_back(values_of(rank(), 5, at::kFloat));
    recv.push_back(r == rank() ? send.back() : at::zeros({5}));
  }
  communicator().all_to_all(send, recv, "test");
  for (std::int64_t r = 0; r < world_size(); ++r)
    EXPECT_TRUE(at::equal(recv[r], values_of(r, 5, at::kFloat)));
}

TEST_P(OperationsTest, all_gather_collects_tensors_of_different_sizes) {
  for (const auto type : kTypes) {
    const auto size_of = [](std::int64_t r) { return (5 * r) % 9; };
    std::vector<at::Tensor> all;
    for (std::int64_t r = 0; r < world_size(); ++r) all.push_back(at::zeros({size_of(r)}, type));
    communicator().all_gather(values_of(rank(), size_of(rank()), type), all, "test");
    for (std::int64_t r = 0; r < world_size(); ++r)
      EXPECT_TRUE(at::equal(all[r], values_of(r, size_of(r), type)));
  }
}

TEST_P(OperationsTest, text_of_every_rank_arrives_whole) {
  const auto text_of = [](std::int64_t r) {
    return r == 0 ? std::string() : "rank " + std::string(1, '\0') + std::string(20 * r, 'x');
  };
  const auto texts = communicator().all_gather_text(text_of(rank()), "test");
  ASSERT_EQ(static_cast<std::int64_t>(texts.size()), world_size());
  for (std::int64_t r = 0; r < world_size(); ++r) EXPECT_EQ(texts[r], text_of(r));
}

TEST_P(OperationsTest, wrong_tensors_are_refused_before_anything_is_sent) {
  auto half = at::zeros({4}, at::kHalf);
  EXPECT_THROW(communicator().all_reduce_sum(half, "test"), std::logic_error);
  auto strided = at::zeros({4, 4}).t();
  EXPECT_THROW(communicator().all_reduce_sum(strided, "test"), std::logic_error);
  std::vector<at::Tensor> too_few;
  EXPECT_THROW(communicator().all_gather(half, too_few, "test"), std::logic_error);
  communicator().barrier("test");
}

TEST_P(OperationsTest, a_meeting_ends_when_all_have_come) {
  // One clock for all: these ranks share a host.
  const auto now = [] { return std::chrono::steady_clock::now().time_since_epoch().count(); };
  const bool is_last = rank() == world_size() - 1;
  // Late, so that who does not wait for it leaves before it came.
  if (is_last) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  auto came = at::full({1}, is_last ? now() : 0, at::kLong);
  communicator().meet("test");
  const auto left = now();
  communicator().all_reduce_sum(came, "test");
  EXPECT_GE(left, came.item<std::int64_t>());
}

TEST_P(OperationsTest, split_connects_ranks_of_one_color_in_their_order) {
  for (const std::int64_t colors : {1, 2, 3}) {
    const auto part = communicator().split(rank() % colors, "test");
    EXPECT_EQ(part->rank(), rank() / colors);
    EXPECT_EQ(part->world_size(), (world_size() - rank() % colors + colors - 1) / colors);
    EXPECT_EQ(part->local_rank(), communicator().local_rank());
    EXPECT_EQ(part->limit(), communicator().limit());
    auto tensor = values_of(rank(), 7, at::kLong);
    part->all_reduce_sum(tensor, "test");
    auto expected = at::zeros({7}, at::kLong);
    for (std::int64_t r = rank() % colors; r < world_size(); r += colors)
      expected += values_of(r, 7, at::kLong);
    EXPECT_TRUE(at::equal(tensor, expected));
    // Both at once, in turns.
    communicator().all_reduce_sum(tensor, "test");
    part->barrier("test");
    communicator().barrier("test");
  }
}

std::string name_of(const ::testing::TestParamInfo<const char*>& info) {
  return info.param;
}
INSTANTIATE_TEST_SUITE_P(, OperationsTest, ::testing::Values("whole", "pieces", "no_memory"), name_of);

TEST(WorldTest, ranks_are_numbered_and_share_this_host) {
  const auto texts = testing::world().all_gather_text(
      std::to_string(testing::world().rank()) + "/" + std::to_string(testing::world().local_rank()), "test");
  for (std::size_t r = 0; r < texts.size(); ++r)
    EXPECT_EQ(texts[r], std::to_string(r) + "/" + std::to_string(r));
  EXPECT_EQ(testing::world().name(), "mpi");
}

TEST(WorldTest, one_rank_alone_keeps_its_values) {
  SingleCommunicator single;
  auto tensor = values_of(0, 5, at::kFloat);
  single.all_reduce_sum(tensor, "test");
  single.broadcast(tensor, 0, "test");
  std::vector<at::Tensor> all = {at::zeros({5})};
  single.all_gather(tensor, all, "test");
  EXPECT_TRUE(at::equal(all[0], values_of(0, 5, at::kFloat)));
  EXPECT_EQ(single.split(3, "test")->world_size(), 1);
  EXPECT_EQ(single.all_gather_text("alone", "test"), std::vector<std::string>{"alone"});
}

}  // namespace
}  // namespace cosub::collective
