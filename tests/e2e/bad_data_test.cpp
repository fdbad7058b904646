// Data files that were cut, flipped, mixed up or are missing: the file is named, training does not begin on
// half a set, and what was there before stays.
#include <gtest/gtest.h>

#include <functional>

#include "common/atomic_file.h"
#include "tests/e2e/bad_input.h"
#include "tests/support/idx_files.h"

namespace cosub::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kImages = "train-images-idx3-ubyte";
constexpr const char* kLabels = "train-labels-idx1-ubyte";
constexpr const char* kValImages = "val-images-idx3-ubyte.gz";

struct Damage {
  const char* name;
  const char* file;
  std::function<void(const fs::path&)> make;
  std::vector<std::string> words;
};

void put_byte(const fs::path& file, std::size_t at, char value) {
  std::string bytes = read_file(file);
  bytes.at(at) = value;
  write_file_atomically(file, bytes);
}

void cut(const fs::path& file) {
  fs::resize_file(file, fs::file_size(file) / 2);
}

class BadData : public BadInput, public ::testing::WithParamInterface<Damage> {};

TEST_P(BadData, IsNamedAndNothingIsTrainedOnIt) {
  const Damage& damage = GetParam();
  damage.make(data(damage.file));
  expect_refusal(run(), ExitCode::kBadInput, damage.words);
  EXPECT_FALSE(fs::exists(run_folder() / "pretrain" / "checkpoints"));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadData,
    ::testing::Values(
        Damage{"CutImages", kImages, cut, {kImages, "holds 6264 bytes", "[64, 14, 14]", "again"}},
        Damage{"FlippedMagic",
               kImages,
               [](const fs::path& file) { put_byte(file, 0, 0x55); },
               {kImages, "55 00 08 03", "no IDX file"}},
        Damage{"OtherElementType",
               kImages,
               [](const fs::path& file) { put_byte(file, 2, 0x0d); },
               {kImages, "0x0d", "0x08"}},
        Damage{"FlippedCount",
               kImages,
               [](const fs::path& file) { put_byte(file, 7, 63); },
               {kImages, "goes on after", "[63, 14, 14]"}},
        Damage{"CorruptGzip", kValImages, flip_a_bit, {kValImages, "compressed data are damaged"}},
        Damage{"CutGzip", kValImages, cut, {kValImages, "cut short"}},
        Damage{"LabelOutOfRange",
               kLabels,
               [](const fs::path& file) { put_byte(file, 8 + 17, 9); },
               {kLabels, "sample 17 has label 9", "model.classes is 4"}},
        Damage{"FewerLabelsThanImages",
               kLabels,
               [](const fs::path& file) {
                 write_maybe_gzip(file, idx_bytes({63}, std::vector<std::uint8_t>(63)));
               },
               {kImages, kLabels, "64 images", "63 labels"}},
        Damage{"ImagesAndLabelsSwapped",
               kLabels,
               [](const fs::path& file) {
                 fs::copy(file.parent_path() / kImages, file, fs::copy_options::overwrite_existing);
               },
               {kLabels, "[64, 14, 14]", "swapped?"}},
        Damage{"Missing",
               kLabels,
               [](const fs::path& file) { fs::remove(file); },
               {"stages.pretrain.data.train.idx.labels", kLabels, "is not there"}},
        Damage{"FolderInsteadOfAFile",
               kLabels,
               [](const fs::path& file) { fs::remove(file), fs::create_directory(file); },
               {kLabels, "is a folder"}}),
    [](const auto& each) { return each.param.name; });

using MendedData = BadInput;

TEST_F(MendedData, LetsTheSameCommandGoOn) {
  const std::string good = read_file(data(kImages));
  cut(data(kImages));
  expect_refusal(run(), ExitCode::kBadInput, {kImages});
  write_file_atomically(data(kImages), good);
  expect_success(run());
}

TEST_F(MendedData, WeightsFileThatIsCutIsNamed) {
  write_pipeline(replaced(tiny_pipeline(runs()),
                          "    schedule:", "    init: {weights: data/start.safetensors}\n    schedule:"));
  write_file_atomically(data("start.safetensors"), std::string("\x40\0\0\0\0\0\0\0{\"a\":", 13));
  expect_refusal(run(), ExitCode::kBadInput, {"start.safetensors"});
}

}  // namespace
}  // namespace cosub::testing
