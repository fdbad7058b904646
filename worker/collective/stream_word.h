// A number in host memory that a CUDA stream writes when it gets there, to be read by the host at any time:
// how far the GPU is, without asking CUDA (which nobody may while a stream is captured).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace cosub::collective {

class StreamWord {
 public:
  /// On the current device; 0 at first. Throws CollectiveError, as write.
  StreamWord();
  StreamWord(const StreamWord&) = delete;
  StreamWord& operator=(const StreamWord&) = delete;

  /// Queues the write. Captured, it becomes part of the graph and happens at each replay.
  void write(cudaStream_t stream, std::uint64_t value);
  std::uint64_t read() const;

 private:
  std::uint64_t* word_ = nullptr;  // never freed: a stream may come to its write after all of this has ended
  std::uint64_t device_word_ = 0;  // the same memory as the GPU addresses it
};

}  // namespace cosub::collective
