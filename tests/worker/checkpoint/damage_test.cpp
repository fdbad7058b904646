// Whatever happens to the files of the newest checkpoint, what is loaded is a whole one: this one or the one
// before.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/random.h"
#include "tests/support/temporary_folder.h"
#include "tests/worker/checkpoint/snapshots.h"
#include "worker/checkpoint/checkpoint.h"

namespace cosub::checkpoint {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kFiles[] = {"MANIFEST.json", "ema.safetensors", "model.safetensors",
                                  "optimizer-0.safetensors", "state.json"};

class Damage : public ::testing::Test {
 protected:
  Damage() {
    Store store(stage_.path(), 1, 3);
    store.commit(snapshot_of(1));
    store.commit(snapshot_of(2));
  }

  /// Loads with newest/`file` holding `content`, expects the one before and the newest set aside; then mends
  /// it.
  void expect_previous_with(const std::string& file, const std::string& content, const std::string& what) {
    const std::string good = read_file(newest_ / file);
    overwrite(newest_ / file, content);
    const auto loaded = Store(stage_.path(), 2, 3).load_newest();
    ASSERT_TRUE(loaded) << what;
    ASSERT_NO_FATAL_FAILURE(expect_is_step(*loaded, 1)) << what;
    const fs::path aside = folder_ / "step-000000002.damaged-1";
    ASSERT_TRUE(fs::exists(aside)) << what;
    ASSERT_FALSE(fs::exists(newest_)) << what;
    fs::rename(aside, newest_);
    overwrite(newest_ / file, good);
  }

  static void overwrite(const fs::path& path, const std::string& content) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  }

  testing::TemporaryFolder stage_;
  fs::path folder_ = stage_ / "checkpoints", newest_ = folder_ / "step-000000002";
};

TEST_F(Damage, AFlippedBitAnywhereIsNoticed) {
  for (const char* file : kFiles) {
    const std::string good = read_file(newest_ / file);
    KeyedRandom random(2024, Purpose::kTest, 0, good.size());
    for (int k = 0; k < 40; ++k) {
      const std::size_t at = k < 10 ? static_cast<std::size_t>(k) : random.uniform_int(good.size());
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << random.uniform_int(8)));
      ASSERT_NO_FATAL_FAILURE(
          expect_previous_with(file, bad, std::string(file) + " byte " + std::to_string(at)));
    }
  }
  expect_is_step(*Store(stage_.path(), 2, 3).load_newest(), 2);  // mended each time
}

TEST_F(Damage, ACutOrGrownFileIsNoticed) {
  for (const char* file : kFiles) {
    const std::string good = read_file(newest_ / file);
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, good.size() / 2, good.size() - 1}) {
      ASSERT_NO_FATAL_FAILURE(expect_previous_with(file, good.substr(0, size), file));
    }
    ASSERT_NO_FATAL_FAILURE(expect_previous_with(file, good + " ", file));
    ASSERT_NO_FATAL_FAILURE(expect_previous_with(file, std::string(good.size(), '\0'), file));
  }
}

TEST_F(Damage, AFileOfTheOtherCheckpointIsNoticed) {
  for (const char* file : kFiles) {
    ASSERT_NO_FATAL_FAILURE(expect_previous_with(file, read_file(folder_ / "step-000000001" / file), file));
  }
}

TEST_F(Damage, AMissingFileOrAFolderInItsPlaceIsNoticed) {
  for (const char* file : kFiles) {
    const std::string good = read_file(newest_ / file);
    fs::remove(newest_ / file);
    EXPECT_THAT(verify(newest_), HasSubstr(std::string(file) + " is missing"));
    fs::create_directory(newest_ / file);
    EXPECT_THAT(verify(newest_), HasSubstr(std::string(file) + " is not a file"));
    fs::remove(newest_ / file);
    fs::create_symlink("/dev/zero", newest_ / file);
    EXPECT_THAT(verify(newest_), HasSubstr(std::string(file) + " is not a file"));
    fs::remove(newest_ / file);
    overwrite(newest_ / file, good);
  }
  EXPECT_EQ(verify(newest_), "");
}

TEST_F(Damage, WhatIsWrongIsNamed) {
  overwrite(newest_ / "MANIFEST.json", "");
  EXPECT_EQ(verify(newest_), "MANIFEST.json is empty");
  overwrite(newest_ / "MANIFEST.json", "{\"format\": \"x\"}");
  EXPECT_EQ(verify(newest_), "MANIFEST.json: its format is not \"cosub-checkpoint-1\"");
  overwrite(newest_ / "MANIFEST.json", "[[[[");
  EXPECT_EQ(verify(newest_), "MANIFEST.json is no JSON object");
  const fs::path older = folder_ / "step-000000001";
  const std::size_t size = fs::file_size(older / "state.json");
  fs::resize_file(older / "state.json", size + 3);
  EXPECT_EQ(verify(older), "state.json has " + std::to_string(size + 3) + " bytes; " + std::to_string(size) +
                               " were written");
}

TEST_F(Damage, ForeignFilesChangeNothing) {
  overwrite(newest_ / ".nfs000012", "left by a file system");
  overwrite(newest_ / "head.safetensors", "not ours");
  overwrite(folder_ / "notes.txt", "left by a person");
  overwrite(folder_ / "step-abc", "");
  fs::create_directory(folder_ / "step-000000003.copy");
  const auto loaded = Store(stage_.path(), 2, 3).load_newest();
  ASSERT_TRUE(loaded);
  expect_is_step(*loaded, 2);
}

TEST_F(Damage, AnEmptyFolderOrAFileUnderANewerNameIsSetAside) {
  fs::create_directory(folder_ / "step-000000003");
  overwrite(folder_ / "step-000000004", "not even a folder");
  expect_is_step(*Store(stage_.path(), 2, 3).load_newest(), 2);
  EXPECT_TRUE(fs::exists(folder_ / "step-000000003.damaged-1"));
  EXPECT_TRUE(fs::exists(folder_ / "step-000000004.damaged-1"));
}

TEST_F(Damage, ASecondDamagedOneOfTheSameStepGetsTheNextNumber) {
  fs::create_directory(folder_ / "step-000000002.damaged-1");
  fs::remove(newest_ / "MANIFEST.json");
  expect_is_step(*Store(stage_.path(), 2, 3).load_newest(), 1);
  EXPECT_TRUE(fs::exists(folder_ / "step-000000002.damaged-2"));
}

TEST_F(Damage, WhenNoneIsWholeTheStageNeverStartsFromZeroByItself) {
  fs::remove(newest_ / "MANIFEST.json");
  fs::resize_file(folder_ / "step-000000001" / "model.safetensors", 3);
  for (int attempt = 2; attempt < 4; ++attempt) {  // the second finds them set aside already
    try {
      Store(stage_.path(), attempt, 3).load_newest();
      FAIL() << "loaded";
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr("step-000000002"), HasSubstr("MANIFEST.json is missing"),
                                      HasSubstr("step-000000001"), HasSubstr("model.safetensors has 3 bytes"),
                                      HasSubstr("remove this folder")));
      EXPECT_EQ(error.exit_code(), ExitCode::kBadInput);
    }
  }
}

}  // namespace
}  // namespace cosub::checkpoint
