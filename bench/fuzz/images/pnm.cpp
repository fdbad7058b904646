// libFuzzer on the PPM and PGM decoder; run by bench/fuzz/run.
#include "bench/fuzz/images/contract.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cosub::fuzz::check_image({data, size});
  return 0;
}
