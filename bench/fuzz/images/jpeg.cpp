// libFuzzer on the JPEG decoder; run by bench/fuzz/run. libjpeg-turbo itself is the system's, without
// sanitizers.
#include "bench/fuzz/images/contract.h"
#include "worker/data/image/encode.h"

namespace cosub::fuzz {
namespace {

/// A thread keeps its decompressor: whatever it went through, the next image comes out right.
void check_goes_on() {
  static const std::vector<std::uint8_t> valid =
      data::encode_jpeg(data::testing::make_photograph(20, 24, 3), {.progressive = true});
  data::Image image;
  promise(try_decode(valid, {0, 0, 20, 24}, 3, 0x55, image), "a valid image refused");
  static const data::Image first = image;
  promise(data::testing::same_pixels(image, first), "a valid image with other pixels than before");
}

/// What a GPU's decoder gets is a file whose header decode() takes as well.
void check_plain(std::span<const std::uint8_t> bytes) {
  if (!data::is_plain_jpeg(bytes)) return;
  try {
    const data::ImageInfo info = data::read_info(bytes);
    promise(info.format == data::ImageFormat::kJpeg && (info.channels == 1 || info.channels == 3),
            "a plain JPEG that is none");
  } catch (const DataError& error) {
    promise(false, error.what());
  }
}

}  // namespace
}  // namespace cosub::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static int num_inputs = 0;
  cosub::fuzz::check_image({data, size});
  cosub::fuzz::check_plain({data, size});
  if (num_inputs++ % 16 == 0) cosub::fuzz::check_goes_on();
  return 0;
}
