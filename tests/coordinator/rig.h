// A supervisor over a real store and real run folders, a fake cluster and a fake clock; it can be killed at
// any commit or act and made again over what is left.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "coordinator/store.h"
#include "coordinator/supervisor.h"
#include "tests/coordinator/fake_cluster.h"
#include "tests/support/temporary_folder.h"

namespace cosub::testing {

/// Not an Error: nothing may catch it on its way out.
struct Crash {};

inline std::string pipeline_yaml(const std::filesystem::path& runs, const std::string& cluster = "{ranks: 2}",
                                 double lr = 1e-3, const std::string& name = "p") {
  const std::string data =
      "{train: {idx: {images: /d/i, labels: /d/l}}, val: {idx: {images: /d/vi, labels: /d/vl}}, mean: [0.5], "
      "std: "
      "[0.5]}";
  const std::string model = "{name: resnet18, classes: 10, channels: 1, image_size: 28}";
  return "name: " + name + "\nseed: 0\nruns: " + runs.string() + "\ncluster: " + cluster +
         "\nstages:\n"
         "  - {name: pretrain, task: classify, model: " +
         model + ", data: " + data + ", optimizer: {lr: " + std::to_string(lr) +
         "}, batch: {global: 128, micro: 32}}\n"
         "  - {name: finetune, task: classify, init: {stage: pretrain}, model: " +
         model + ", data: " + data +
         ", batch: {global: 128, micro: 32}}\n"
         "  - {name: evaluate, task: evaluate, init: {stage: finetune}, data: " +
         data + "}\n";
}

/// These tests commit tens of thousands of times and none of them cuts the power: memory will do where it is
/// to be had.
struct InMemory {
  InMemory() {
    if (access("/dev/shm", W_OK | X_OK) == 0) setenv("TMPDIR", "/dev/shm", 0);
  }
};

class Rig {
  InMemory in_memory_;  // before the folder is made

 public:
  Rig() { restart(); }

  void restart() {
    supervisor.reset();
    store.reset();
    store = std::make_unique<coordinator::Store>(folder / "state.db");
    coordinator::SupervisorOptions options;
    options.launch.worker_program = "/bin/cosub-worker";
    options.address = "127.0.0.1:7070";
    options.now = [this] { return now; };
    options.backend = [this](const std::string&) -> launcher::Backend& { return cluster; };
    options.fault_point = [this](const char* where) {
      ++points;
      if (fault) fault(where);
    };
    supervisor = std::make_unique<coordinator::Supervisor>(*store, options);
  }

  protocol::PipelineView submit(const std::string& cluster_yaml = "{ranks: 2}") {
    return supervisor->submit(pipeline_yaml(folder / "runs", cluster_yaml));
  }

  /// One look of the supervisor, then one pass of time.
  void tick() {
    supervisor->tick();
    cluster.pass_time();
    now += std::chrono::milliseconds(200);
  }

  protocol::PipelineView view() const { return supervisor->view("p"); }
  StageFolder stage_folder(const std::string& stage) const {
    return StageFolder{folder / "runs" / "p" / stage};
  }

  /// Ticks until the pipeline is in that state; false when it is not within `limit` ticks.
  bool reaches(const std::string& state, int limit = 400) {
    for (int i = 0; i < limit; ++i) {
      if (view().state == state) return true;
      tick();
    }
    return view().state == state;
  }

  TemporaryFolder folder;
  FakeCluster cluster;
  coordinator::Instant now{1000};
  int points = 0;
  std::function<void(const char*)> fault;
  std::unique_ptr<coordinator::Store> store;
  std::unique_ptr<coordinator::Supervisor> supervisor;
};

}  // namespace cosub::testing
