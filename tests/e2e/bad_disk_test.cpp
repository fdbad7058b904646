// A disk that is full at the start, during a checkpoint, for the coordinator and at the export: the run says
// so, keeps what it has, and goes on with the same command when there is room again.
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "tests/e2e/bad_input.h"

namespace cosub::testing {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = 1 << 20;

bool write_text(const char* file, const std::string& text) {
  std::ofstream stream(file);
  stream << text << std::flush;
  return stream.good();
}

/// A mount namespace of this process's own, so that nothing is left mounted whatever becomes of it. Without
/// root it needs user namespaces, which Debian allows.
void enter_own_mount_namespace() {
  static bool entered = false;
  if (entered) return;
  const uid_t user = geteuid();
  const gid_t group = getegid();
  const bool root = user == 0;
  if (unshare(CLONE_NEWNS | (root ? 0 : CLONE_NEWUSER)) != 0)
    throw std::runtime_error(
        std::string("this test mounts a small disk, which needs root or user namespaces: ") +
        std::strerror(errno));
  if (!root && !(write_text("/proc/self/setgroups", "deny") &&
                 write_text("/proc/self/uid_map", "0 " + std::to_string(user) + " 1") &&
                 write_text("/proc/self/gid_map", "0 " + std::to_string(group) + " 1")))
    throw std::runtime_error("cannot map the user into a user namespace");
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    throw std::runtime_error(std::string("cannot make mounts private: ") + std::strerror(errno));
  entered = true;
}

class FullDisk : public BadInput {
 protected:
  ~FullDisk() override { umount2(disk().c_str(), MNT_DETACH); }

  fs::path disk() const { return folder_ / "disk"; }
  fs::path run_on_disk() const { return disk() / "runs" / "tiny"; }

  void mount_disk(std::uint64_t bytes) {
    enter_own_mount_namespace();
    fs::create_directory(disk());
    const std::string options = "size=" + std::to_string(bytes);
    ASSERT_EQ(mount("none", disk().c_str(), "tmpfs", 0, options.c_str()), 0) << std::strerror(errno);
  }

  /// Leaves this much room.
  void fill(std::uint64_t bytes_left) {
    std::ofstream file(disk() / "fill", std::ios::binary);
    for (const std::string block(64 << 10, 'x'); free_bytes(disk()) > bytes_left + block.size();)
      file << block << std::flush;
    for (const std::string block(4 << 10, 'x'); free_bytes(disk()) > bytes_left;) file << block << std::flush;
  }
  void make_room() { fs::remove(disk() / "fill"); }
};

TEST_F(FullDisk, AtTheStartIsSaidAndTheSameCommandRunsWhenThereIsRoom) {
  mount_disk(2 * kMiB);
  write_pipeline(tiny_pipeline(disk() / "runs"));
  fill(4 << 10);
  expect_refusal(run(), ExitCode::kFailure, {disk().string(), "disk full"});
  make_room();
  expect_success(run());
}

TEST_F(FullDisk, DuringACheckpointKeepsTheOneBeforeAndGoesOnFromItWhenThereIsRoom) {
  mount_disk(40 * kMiB);
  write_pipeline(tiny_pipeline(disk() / "runs", 64));
  fill(7 * kMiB);  // one checkpoint is about 4.3 MiB
  expect_refusal(
      run(), ExitCode::kFailure,
      {"no room for the checkpoint of step 4", "MiB", "Older checkpoints are kept", "free some space"});
  EXPECT_TRUE(fs::exists(run_on_disk() / "pretrain/checkpoints/step-000000002/MANIFEST.json"));
  EXPECT_FALSE(fs::exists(run_on_disk() / "pretrain/attempts/4"));  // three tries, not one for ever
  make_room();
  expect_success(run());
  EXPECT_THAT(read_file(run_on_disk() / "pretrain/attempts/4/rank-0.log"),
              HasSubstr("going on from the checkpoint of step 2"));
}

/// Not even the end of an attempt can be recorded then: whoever waits has to be told, and nothing forgotten.
TEST_F(FullDisk, ForEverybodyIsSaidAndTheRunGoesOnByItselfWhenThereIsRoom) {
  mount_disk(4 * kMiB);
  write_pipeline(replaced(tiny_pipeline(disk() / "runs"), "epochs: 3", "epochs: 40"));
  Background running({program("cosub"), "run", folder_ / "tiny.yaml"}, folder_ / "output");
  const auto wait_until = [&](const auto& holds) {
    for (const auto end = std::chrono::steady_clock::now() + 60s;
         !holds() && std::chrono::steady_clock::now() < end && !running.wait(20ms);) {
    }
    return holds();
  };
  ASSERT_TRUE(wait_until([&] { return fs::exists(run_on_disk() / "pretrain/checkpoints"); }))
      << running.output();
  fill(0);
  EXPECT_TRUE(wait_until([&] { return running.output().find("free some space") != std::string::npos; }))
      << running.output();
  make_room();
  EXPECT_EQ(running.wait(120s), 0) << running.output();
}

TEST_F(FullDisk, AtTheExportLeavesNoHalfModel) {
  expect_success(run());
  mount_disk(kMiB);
  fill(16 << 10);
  const std::vector<std::string> command{
      program("cosub"), "export",        "--checkpoint", run_folder() / "pretrain/checkpoints/step-000000006",
      "--output",       disk() / "model"};
  expect_refusal(run_program(command), ExitCode::kFailure, {disk().string(), "No space left"});
  EXPECT_FALSE(fs::exists(disk() / "model"));
  make_room();
  expect_success(run_program(command));
  EXPECT_EQ(sha256_file(disk() / "model/model.safetensors"), exported_sha256(run_folder()));
}

TEST_F(FullDisk, DuringPackingKeepsTheShardsAndGoesOnWhenThereIsRoom) {
  mount_disk(kMiB);
  const std::vector<std::string> command{program("cosub"),
                                         "data",
                                         "pack",
                                         "--images",
                                         data("train-images-idx3-ubyte"),
                                         "--labels",
                                         data("train-labels-idx1-ubyte"),
                                         "--samples-per-shard",
                                         "8",
                                         "--output",
                                         disk() / "packed"};
  fill(100 << 10);  // all would take twice as much
  expect_refusal(run_program(command), ExitCode::kFailure,
                 {(disk() / "packed/.pack").string(), "No space left", "the same command goes on"});
  EXPECT_TRUE(fs::exists(disk() / "packed/000000.tar"));
  EXPECT_FALSE(fs::exists(disk() / "packed/shards.index"));
  make_room();
  expect_success(run_program(command));
  EXPECT_TRUE(fs::exists(disk() / "packed/000007.tar"));
  EXPECT_TRUE(fs::exists(disk() / "packed/shards.index"));
}

/// A quota on the size of a file (ulimit -f) is such an error too, not a death by SIGXFSZ.
TEST_F(FullDisk, FileSizeLimitIsNamedByAWorkerOfItsOwn) {
  expect_success(run());
  const fs::path stage = run_folder() / "pretrain";
  fs::remove_all(stage / "checkpoints");
  const std::vector<std::string> command{program("cosub-worker"), "run", stage / "stage.yaml"};
  std::vector<std::string> limited{"/bin/sh", "-c", "ulimit -f 32; exec \"$@\"", "sh"};
  limited.insert(limited.end(), command.begin(), command.end());
  expect_refusal(run_program(limited), ExitCode::kFailure, {"safetensors", "File too large"});
  EXPECT_FALSE(fs::exists(stage / "checkpoints/step-000000002"));
  expect_success(run_program(command));
}

}  // namespace
}  // namespace cosub::testing
