// nvJPEG itself, where there is a GPU: its pixels beside our decoder's, a microbatch made by it, and files
// that it must not stumble over.
#include <ATen/ops/mean.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "common/error.h"
#include "tests/worker/data/image/images.h"
#include "worker/collective/communicator.h"
#include "worker/data/host_decoder.h"
#include "worker/data/image/encode.h"
#include "worker/data/nvjpeg_module.h"

namespace cosub::data {
namespace {

using Bytes = std::vector<std::uint8_t>;

class NvjpegTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!collective::gpu_present()) GTEST_SKIP() << "nvJPEG was not run: this host has no GPU";
    decoder_ = nvjpeg_decoders(device_)();
  }
  double psnr(const at::Tensor& a, const at::Tensor& b) {
    const double error = a.cpu().to(at::kDouble).sub(b.to(at::kDouble)).square().mean().item<double>();
    return 10 * std::log10(255 * 255 / std::max(error, 1e-9));
  }

  const at::Device device_{at::kCUDA, 0};
  std::unique_ptr<DeviceDecoder> decoder_;
  HostDecoder host_;
};

TEST_F(NvjpegTest, RegionsAreThoseOfOurDecoderUpToRounding) {
  for (const std::int64_t channels : {1, 3}) {
    for (const auto subsampling : {Subsampling::k444, Subsampling::k422, Subsampling::k420}) {
      const Image image = testing::make_photograph(375, 500, channels);
      const Bytes file = encode_jpeg(image, {.quality = 90, .subsampling = subsampling});
      const std::vector<EncodedRegion> wanted = {{file, {0, 0, 375, 500}}, {file, {17, 33, 200, 301}}};
      const auto device = decoder_->decode(wanted, channels), host = host_.decode(wanted, channels);
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        ASSERT_TRUE(device[i].defined()) << i;
        ASSERT_EQ(device[i].sizes(), host[i].sizes());
        const double db = psnr(device[i], host[i]);
        std::printf("channels %d, subsampling %d, region %zu: %.1f dB\n", static_cast<int>(channels),
                    static_cast<int>(subsampling), i, db);
        // Without subsampled colours only the IDCT's rounding differs.
        const bool same_colours = subsampling == Subsampling::k444 || channels == 1;
        EXPECT_GT(db, same_colours ? 40 : 20);
      }
    }
  }
}

TEST_F(NvjpegTest, GreyFilesBecomeColourAndColourIsNotMadeGrey) {
  const Bytes grey = encode_jpeg(testing::make_photograph(60, 80, 1));
  const Bytes colour = encode_jpeg(testing::make_photograph(60, 80, 3));
  const std::vector<EncodedRegion> one = {{grey, {0, 0, 60, 80}}}, other = {{colour, {0, 0, 60, 80}}};
  const at::Tensor pixels = decoder_->decode(one, 3)[0];
  ASSERT_TRUE(pixels.defined());
  EXPECT_GT(psnr(pixels, host_.decode(one, 3)[0]), 40);
  EXPECT_FALSE(decoder_->decode(other, 1)[0].defined());
}

TEST_F(NvjpegTest, ADamagedFileDoesNotConcernTheOthers) {
  const Bytes good = encode_jpeg(testing::make_photograph(200, 300, 3));
  for (std::size_t at = 2; at < good.size(); at += 97) {
    Bytes damaged = good;
    damaged[at] ^= 0x5a;
    const std::vector<EncodedRegion> three = {
        {good, {0, 0, 200, 300}}, {damaged, {0, 0, 200, 300}}, {good, {10, 10, 100, 100}}};
    const auto decoded = decoder_->decode(three, 3);
    ASSERT_TRUE(decoded[0].defined());
    ASSERT_TRUE(decoded[2].defined());
    EXPECT_TRUE(decoded[2].equal(decoded[0].slice(0, 10, 110).slice(1, 10, 110))) << at;
  }
}

}  // namespace
}  // namespace cosub::data
