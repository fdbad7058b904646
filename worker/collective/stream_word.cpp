#include "worker/collective/stream_word.h"

#include <cuda.h>
#include <fmt/format.h>

#include <atomic>

#include "common/error.h"

namespace cosub::collective {
namespace {

void check(cudaError_t result, const char* call) {
  if (result != cudaSuccess)
    throw CollectiveError(fmt::format("CUDA failed in {}: {}", call, cudaGetErrorString(result)));
}

// A stream memory operation rather than a copy or a kernel: it takes neither a copy engine (behind a
// checkpoint's copies) nor a multiprocessor. In a graph it is a node of its own kind
// (CU_GRAPH_NODE_TYPE_BATCH_MEM_OP of cuda.h), and NCCL itself has cuStreamBatchMemOp captured into graphs
// (2.28, src/ce_coll.cc). From the driver by name: no program of ours links libcuda, which only hosts with a
// GPU have.
using BatchMemOp = CUresult (*)(CUstream, unsigned int, CUstreamBatchMemOpParams*, unsigned int);

BatchMemOp find_batch_mem_op() {
  constexpr unsigned int kSince = 12000;  // the interface of CUDA 12, "_v2"
  void* found = nullptr;
  cudaDriverEntryPointQueryResult status = cudaDriverEntryPointSymbolNotFound;
  check(cudaGetDriverEntryPointByVersion("cuStreamBatchMemOp", &found, kSince, cudaEnableDefault, &status),
        "cudaGetDriverEntryPointByVersion");
  if (status != cudaDriverEntryPointSuccess || found == nullptr)
    throw CollectiveError(
        "the NVIDIA driver has no cuStreamBatchMemOp: it needs to be one for CUDA 12 or later");
  return reinterpret_cast<BatchMemOp>(found);
}

}  // namespace

StreamWord::StreamWord() {
  void *host = nullptr, *device = nullptr;
  check(cudaHostAlloc(&host, sizeof(std::uint64_t), cudaHostAllocMapped | cudaHostAllocPortable),
        "cudaHostAlloc");
  check(cudaHostGetDevicePointer(&device, host, 0), "cudaHostGetDevicePointer");
  word_ = static_cast<std::uint64_t*>(host);
  std::atomic_ref(*word_).store(0);
  device_word_ = reinterpret_cast<std::uint64_t>(device);
}

void StreamWord::write(cudaStream_t stream, std::uint64_t value) {
  static const BatchMemOp batch_mem_op = find_batch_mem_op();
  CUstreamBatchMemOpParams operation = {};
  operation.writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_64;
  operation.writeValue.address = device_word_;
  operation.writeValue.value64 = value;
  operation.writeValue.flags = CU_STREAM_WRITE_VALUE_DEFAULT;
  const CUresult result = batch_mem_op(stream, 1, &operation, 0);
  if (result != CUDA_SUCCESS)
    throw CollectiveError(fmt::format("cuStreamBatchMemOp failed with code {}", static_cast<int>(result)));
}

std::uint64_t StreamWord::read() const {
  return std::atomic_ref(*word_).load(std::memory_order_acquire);
}

}  // namespace cosub::collective
