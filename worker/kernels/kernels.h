// Our CUDA kernels as a table of functions. They lie in a module of their own (lib/libcosub_kernels.so, from
// kernels.cu), loaded only where a GPU is; whoever calls them asks loaded_kernels() and has LibTorch's
// operators where there are none. A call queues its launches on `stream` of the current device and returns;
// std::runtime_error when CUDA refuses one. No call allocates, synchronises or reads memory of the device
// from the host, so that all may be captured into a CUDA graph. Thread-safe, but for loading.
#pragma once

#include "worker/kernels/arguments.h"
#include "worker/kernels/update_arguments.h"

namespace cosub::kernels {

using Stream = void*;  // a cudaStream_t

struct Kernels {
  bool on_cpu = false;  // emulated, for tests: pointers are the host's and a call returns when it is done

  void (*layer_norm)(const LayerNorm&, Stream) = nullptr;
  void (*layer_norm_backward)(const LayerNormBackward&, Stream) = nullptr;
  void (*add_rows)(const AddRows&, Stream) = nullptr;
  void (*add_rows_backward)(const AddRowsBackward&, Stream) = nullptr;
  void (*bias_gelu)(const BiasGelu&, Stream) = nullptr;
  void (*bias_gelu_backward)(const BiasGeluBackward&, Stream) = nullptr;
  // These four null where the GPU cannot, or they were not built.
  void (*attention)(const AttentionForward&, Stream) = nullptr;
  void (*attention_backward)(const AttentionBackward&, Stream) = nullptr;
  void (*gelu_product)(const GeluProduct&, Stream) = nullptr;
  void (*slope_product)(const SlopeProduct&, Stream) = nullptr;
  void (*column_sums)(const ColumnSums&, Stream) = nullptr;
  void (*join_columns)(const JoinColumns&, Stream) = nullptr;

  void (*norm)(const Norm&, Stream) = nullptr;
  void (*adamw)(const AdamwUpdate&, Stream) = nullptr;
  void (*sgd)(const SgdUpdate&, Stream) = nullptr;
  void (*lamb)(const LambUpdate&, Stream) = nullptr;
  void (*ema)(const EmaUpdate&, Stream) = nullptr;
};

constexpr const char* kTableName = "cosub_kernels";  // the module's one C function
using TableFunction = const Kernels* (*)();

/// Loads the module for the life of the process and makes it loaded_kernels(). False when it was not built:
/// everything then runs by LibTorch's operators. IoError when it is there but does not load. Call it after
/// LibTorch's CUDA half is loaded (connect_nccl), before other threads ask.
bool load_kernels();

/// Null until they are loaded.
const Kernels* loaded_kernels();

/// For tests: these from now on; null: none.
void set_kernels(const Kernels* kernels);

}  // namespace cosub::kernels
