// Tensors come back from a safetensors file as they went in.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "common/atomic_file.h"
#include "common/error.h"
#include "tests/support/temporary_folder.h"
#include "worker/checkpoint/checkpoint.h"

namespace cosub::checkpoint {
namespace {

TEST(Tensors, EveryTypeAndShapeComesBackToTheBit) {
  const testing::TemporaryFolder folder;
  Tensors tensors;
  for (const auto type : {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf,
                          at::kBFloat16, at::kFloat, at::kDouble}) {
    tensors[std::string("t.") + at::toString(type)] = at::arange(6).remainder(2).to(type).reshape({2, 3});
  }
  tensors["scalar"] = at::full({}, 7, at::kLong);
  tensors["nothing"] = at::empty({0, 3});
  tensors["special"] = at::tensor({0.0f, -0.0f, std::numeric_limits<float>::infinity(), 1e-45f});
  tensors["transposed"] = at::arange(6, at::kFloat).reshape({2, 3}).t();
  save_tensors(folder / "all.safetensors", tensors, {{"format", "pt"}});
  const Tensors read = load_tensors(folder / "all.safetensors");
  ASSERT_EQ(read.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(read.at(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(read.at(name).equal(tensor)) << name;
    EXPECT_TRUE(read.at(name).is_contiguous()) << name;
  }
  EXPECT_TRUE(read.at("special").signbit().equal(tensors.at("special").signbit()));
}

TEST(Tensors, ParametersAreSavedByValue) {
  const testing::TemporaryFolder folder;
  const at::Tensor parameter = at::ones({2}).requires_grad_();
  save_tensors(folder / "p.safetensors", {{"p", parameter}});
  EXPECT_FALSE(load_tensors(folder / "p.safetensors").at("p").requires_grad());
}

TEST(Tensors, EqualTensorsGiveEqualBytes) {
  const testing::TemporaryFolder folder;
  save_tensors(folder / "a", {{"x", at::ones({2})}, {"y", at::zeros({3})}});
  save_tensors(folder / "b", {{"y", at::zeros({3})}, {"x", at::ones({2})}});
  EXPECT_EQ(read_file(folder / "a"), read_file(folder / "b"));
}

TEST(Tensors, AnExistingFileIsNotReplaced) {
  const testing::TemporaryFolder folder;
  save_tensors(folder / "a", {{"x", at::ones({2})}});
  EXPECT_THROW(save_tensors(folder / "a", {{"x", at::zeros({2})}}), IoError);
  EXPECT_TRUE(load_tensors(folder / "a").at("x").equal(at::ones({2})));
}

TEST(Tensors, ATypeSafetensorsLacksIsNamed) {
  const testing::TemporaryFolder folder;
  try {
    save_tensors(folder / "a", {{"spectrum", at::zeros({2}, at::kComplexFloat)}});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("tensor spectrum has type ComplexFloat"));
  }
}

}  // namespace
}  // namespace cosub::checkpoint
