// libFuzzer on safetensors::parse_header; run by bench/fuzz/run. A broken promise ends the process as
// any exception does that is not DataError.
#include "bench/fuzz/safetensors/mutator.h"
#include "tests/support/safetensors_contract.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cosub::testing::check_safetensors(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
