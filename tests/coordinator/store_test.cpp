#include "coordinator/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "common/atomic_file.h"
#include "common/error.h"
#include "tests/coordinator/situation.h"
#include "tests/support/temporary_folder.h"

namespace cosub::coordinator {
namespace {

using namespace cosub::testing;
using ::testing::AllOf;
using ::testing::HasSubstr;

template <class Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

PipelineState eventful() {
  PipelineState pipeline = three_stages();
  pipeline.yaml = "name: p\n";
  pipeline.identity = "0123456789abcdef";
  pipeline.goal = Goal::kStop;
  pipeline.goal_reason = "it's \"enough\"";
  StageState& stage = pipeline.stages[0];
  add_ended(stage, EndClass::kOwnError, "boom", 12);
  AttemptState& live = add_attempt(stage, AttemptStatus::kRunning);
  live.token = "secret";
  live.stop = StopRequest::kCheckpoint;
  live.stop_cause = StopCause::kPerson;
  live.stop_reason = "Ctrl-C";
  live.started_unix = 1'700'000'000;
  stage.status = StageStatus::kStopping;
  stage.reason = "Ctrl-C";
  stage.restarts = 3;
  stage.counted_after = 1;
  stage.checkpoint_step = 1200;
  stage.backoff = 4s;
  stage.progress.step = 1234;
  stage.results = {{"top1", 0.9}, {"submodels.even.top1", 0.8}};
  stage.export_path = "/runs/p/export/model";
  return pipeline;
}

class StoreTest : public ::testing::Test {
 protected:
  TemporaryFolder folder;
  std::filesystem::path file = folder / "state.db";
};

TEST_F(StoreTest, GivesBackWhatWasCommitted) {
  const PipelineState saved = eventful();
  Store(file).save(saved);
  const std::vector<PipelineState> loaded = Store(file).load();
  ASSERT_EQ(loaded.size(), 1u);
  EXPECT_EQ(loaded[0].name, "p");
  EXPECT_EQ(loaded[0].folder, saved.folder);
  EXPECT_EQ(loaded[0].yaml, saved.yaml);
  EXPECT_EQ(loaded[0].identity, saved.identity);
  EXPECT_EQ(loaded[0].goal, Goal::kStop);
  EXPECT_EQ(loaded[0].goal_reason, saved.goal_reason);
  ASSERT_EQ(loaded[0].stages.size(), 3u);
  EXPECT_EQ(loaded[0].stages[1].name, "finetune");
  EXPECT_EQ(loaded[0].stages[2].name, "evaluate");
  const StageState& stage = loaded[0].stages[0];
  EXPECT_EQ(stage.status, StageStatus::kStopping);
  EXPECT_EQ(stage.restarts, 3);
  EXPECT_EQ(stage.counted_after, 1);
  EXPECT_EQ(stage.checkpoint_step, 1200);
  EXPECT_EQ(stage.backoff, 4s);
  EXPECT_EQ(stage.progress.step, 1234);
  EXPECT_EQ(stage.results, saved.stages[0].results);
  EXPECT_EQ(stage.export_path, saved.stages[0].export_path);
  ASSERT_EQ(stage.attempts.size(), 2u);
  EXPECT_EQ(stage.attempts[0].end, EndClass::kOwnError);
  EXPECT_EQ(stage.attempts[0].reason, "boom");
  EXPECT_EQ(stage.attempts[0].step, 12);
  EXPECT_EQ(stage.attempts[1].status, AttemptStatus::kRunning);
  EXPECT_EQ(stage.attempts[1].token, "secret");
  EXPECT_EQ(stage.attempts[1].stop_cause, StopCause::kPerson);
  EXPECT_EQ(stage.attempts[1].stop_reason, "Ctrl-C");
  EXPECT_EQ(stage.attempts[1].started_unix, 1'700'000'000);
}

TEST_F(StoreTest, SavingOneStageKeepsItsPlaceAndTheOthers) {
  PipelineState pipeline = eventful();
  Store store(file);
  store.save(pipeline);
  pipeline.stages[2].status = StageStatus::kReady;
  add_attempt(pipeline.stages[2], AttemptStatus::kIntended);
  store.save_stage("p", pipeline.stages[2]);
  const PipelineState loaded = store.load().at(0);
  EXPECT_EQ(loaded.stages[0].attempts.size(), 2u);
  EXPECT_EQ(loaded.stages[2].name, "evaluate");
  EXPECT_EQ(loaded.stages[2].attempts.at(0).status, AttemptStatus::kIntended);
}

TEST_F(StoreTest, KeepsNothingOfAStageThatIsNoLongerThere) {
  Store store(file);
  PipelineState pipeline = eventful();
  store.save(pipeline);
  std::swap(pipeline.stages[0], pipeline.stages[1]);
  pipeline.stages[0].attempts.clear();
  pipeline.stages.pop_back();
  store.save(pipeline);
  const PipelineState loaded = store.load().at(0);
  ASSERT_EQ(loaded.stages.size(), pipeline.stages.size());
  EXPECT_EQ(loaded.stages[0].name, pipeline.stages[0].name);
  EXPECT_TRUE(loaded.stages[0].attempts.empty());
  EXPECT_EQ(loaded.stages[1].attempts.size(), pipeline.stages[1].attempts.size());
}

TEST_F(StoreTest, RemovesAPipelineWithAllThatBelongsToIt) {
  Store store(file);
  store.save(eventful());
  store.remove("p");
  EXPECT_TRUE(store.load().empty());
  store.save(eventful());  // the same UUIDs again: nothing of them stayed
}

TEST_F(StoreTest, RaisesTheGenerationAtEveryOpening) {
  EXPECT_EQ(Store(file).generation(), 1);
  EXPECT_EQ(Store(file).generation(), 2);
}

TEST_F(StoreTest, KilledBetweenTwoSavesKeepsTheFirst) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Store store(file);
    PipelineState pipeline = eventful();
    store.save(pipeline);
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(Store(file).load().at(0).stages[0].attempts.size(), 2u);
}

TEST_F(StoreTest, KilledInsideATransactionKeepsNothingOfIt) {
  { Store(file).save(eventful()); }
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Database database(file);
    Transaction transaction(database);
    database.run("UPDATE stages SET reason = 'half done'");
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(Store(file).load().at(0).stages[0].reason, "Ctrl-C");
}

TEST_F(StoreTest, RefusesAFileThatIsNoDatabase) {
  std::ofstream(file) << std::string(4096, 'x');
  EXPECT_THAT(message_of([&] { Store store(file); }), AllOf(HasSubstr(file.string()), HasSubstr("damaged")));
}

TEST_F(StoreTest, NamesADamagedDatabaseAndWhatToDo) {
  {
    Store store(file);
    for (int i = 0; i < 50; ++i) {
      PipelineState pipeline = eventful();
      pipeline.name = "p" + std::to_string(i);
      for (AttemptState& attempt : pipeline.stages[0].attempts) attempt.uuid += pipeline.name;
      store.save(pipeline);
    }
  }
  const auto size = std::filesystem::file_size(file);
  ASSERT_GT(size, 16384u);
  std::fstream damage(file, std::ios::in | std::ios::out | std::ios::binary);
  damage.seekp(8192);
  damage << std::string(size - 8192, '\xff');
  damage.close();
  EXPECT_THAT(message_of([&] { Store store(file); }),
              AllOf(HasSubstr(file.string()), HasSubstr("damaged"), HasSubstr("submit the pipelines again")));
}

TEST_F(StoreTest, RefusesTheMemoryOfANewerCoordinator) {
  { Store store(file); }
  { Database(file).run("PRAGMA user_version=99"); }
  EXPECT_THAT(message_of([&] { Store store(file); }), HasSubstr("newer coordinator (schema 99"));
}

}  // namespace
}  // namespace cosub::coordinator
