// The coordinator dies at every commit and every act, one after another, and is made again over what is left:
// each time every stage must come to its end, with no two live attempts of a stage and no attempt number used
// twice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/coordinator/rig.h"

namespace cosub::coordinator {
namespace {

using namespace cosub::testing;
using ::testing::IsEmpty;

constexpr int kLimit = 600;

/// A job of every kind of end: killed, vanished, preempted, an own error, complete.
Fate eventful(const FakeJob& job) {
  if (job.age < 4) return {Fate::kGoesOn};  // long enough to overlap with a successor started too early
  if (job.stage == "pretrain" && job.spec.attempt == 1)
    return {Fate::kExits, {137, "rank 1 killed", 1, true}};
  if (job.stage == "pretrain" && job.spec.attempt == 2) return {Fate::kVanishes};
  if (job.stage == "finetune" && job.spec.attempt == 1) return {Fate::kExits, {75, "preempted"}};
  if (job.stage == "evaluate" && job.spec.attempt == 1) return {Fate::kExits, {1, "cannot read"}};
  return {Fate::kCompletes};
}

/// One request and a pass of time. After a crash the coordinator is made again, and looks before time passes:
/// a wrapper that was being started is not to be seen then. True when it crashed.
template <class Request>
bool survive(Rig& rig, Request request) {
  try {
    request();
  } catch (const Crash&) {
    const auto fault = std::exchange(rig.fault, nullptr);
    rig.restart();
    rig.fault = fault;
    return true;
  }
  rig.cluster.pass_time();
  rig.now += std::chrono::milliseconds(200);
  return false;
}

/// To the end, submitting until it is known and stopping and resuming on the way. True when it crashed at
/// all.
bool run_to_the_end(Rig& rig) {
  bool crashed = false, stopped = false, resumed = false;
  for (int i = 0; i < kLimit; ++i) {
    const auto views = rig.supervisor->list();
    const std::string state = views.empty() ? "" : views[0].state;
    if (state == "succeeded" && resumed) return crashed;
    if (state.empty()) {
      crashed = survive(rig, [&] { rig.submit("{ranks: 2, backoff: 400ms, max_restarts: 100}"); }) || crashed;
    } else if (!stopped && rig.cluster.running("finetune") != nullptr) {
      crashed = survive(rig, [&] { rig.supervisor->stop("p", false, "test"); }) || crashed;
      stopped = rig.view().state == "stopping" || rig.view().state == "stopped";
    } else if (state == "stopped") {
      crashed = survive(rig, [&] { rig.supervisor->resume("p"); }) || crashed;
      resumed = rig.view().state == "running";
    } else {
      crashed = survive(rig, [&] { rig.supervisor->tick(); }) || crashed;
    }
  }
  ADD_FAILURE() << "not at its end after " << kLimit << " ticks: " << protocol::dump(rig.supervisor->list());
  return crashed;
}

void check(const Rig& rig) {
  EXPECT_THAT(rig.cluster.breaches, IsEmpty());
  for (const FakeJob& job : rig.cluster.jobs)
    EXPECT_NE(job.state, FakeJob::kRunning) << "left running: " << job.stage;
  EXPECT_EQ(rig.view().state, "succeeded");
}

class Crashes : public ::testing::TestWithParam<bool> {};

TEST_P(Crashes, AtEveryPointLoseNothingAndStartNothingTwice) {
  int point = 1;
  for (bool crashed = true; crashed; ++point) {
    SCOPED_TRACE(::testing::Message() << "killed at point " << point);
    Rig rig;
    rig.cluster.claims_at_once = GetParam();
    rig.cluster.fate = eventful;
    std::string where;
    rig.fault = [&](const char* name) {
      if (rig.points != point) return;
      where = name;
      throw Crash{};
    };
    crashed = run_to_the_end(rig);
    check(rig);
    ASSERT_FALSE(HasFailure()) << "killed " << where;
  }
  EXPECT_GT(point, 100);  // the scenario has that many points: the test really went through them
}

TEST_P(Crashes, AgainAndAgainLoseNothingAndStartNothingTwice) {
  for (unsigned seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rig rig;
    rig.cluster.claims_at_once = GetParam();
    rig.cluster.fate = eventful;
    std::mt19937 random(seed);
    rig.fault = [&](const char*) {
      if (random() % 12 == 0) throw Crash{};
    };
    EXPECT_TRUE(run_to_the_end(rig));
    check(rig);
    ASSERT_FALSE(HasFailure());
  }
}

INSTANTIATE_TEST_SUITE_P(WrappersThat, Crashes, ::testing::Values(true, false),
                         [](const auto& with) { return with.param ? "ClaimAtOnce" : "AreNotYetToBeSeen"; });

}  // namespace
}  // namespace cosub::coordinator
