// What the kernels of the update take: a whole step of an optimizer and the EMA in one pass over flat float32
// vectors on the GPU (as worker/train/flat_state.h lays them out). Whatever changes from step to step is read
// from the device when the kernel runs, so that the host waits for nothing and a CUDA graph can replay it.
#pragma once

#include <cstdint>

namespace cosub::kernels {

/// Five doubles on the device, of one step.
enum UpdateScalar : int {
  kApplies,  // 1; 0: the step is left out and nothing changes, whatever the gradients are
  kUpdates,  // made before this one
  kLearningRate,
  kGradientFactor,  // clipping: below 1 the gradients are multiplied by it, in place too
  kGradientNorm,    // L2, after that
  kNumUpdateScalars
};

/// norm = |values|, summed in double.
struct Norm {
  const float* values = nullptr;
  std::int64_t size = 0;
  double* scratch = nullptr;  // [kNormScratch]
  double* norm = nullptr;     // [1]
};
inline constexpr std::int64_t kNormScratch = 2048;

/// average += (1 - decay_t) (values - average), decay_t = min(decay, (1 + t) / (10 + t)) with warm-up, else
/// decay, t = scalars[kUpdates]
struct EmaRule {
  float* average = nullptr;  // laid out like the values; null: there is none
  double decay = 0;
  bool warmup = false;
};

/// Elements of the vectors that are treated alike.
struct UpdateGroup {
  std::int64_t begin = 0, end = 0;
  double lr_scale = 1, weight_decay = 0;
};

/// By adamw.h's formulas.
struct AdamwUpdate {
  UpdateGroup group;
  const double* scalars = nullptr;
  float *values = nullptr, *gradients = nullptr, *exp_avg = nullptr, *exp_avg_sq = nullptr;  // whole vectors
  EmaRule ema;
  double beta1 = 0, beta2 = 0, eps = 0;
};

/// By sgd.h's formulas; the update with kUpdates 0 starts the momentum.
struct SgdUpdate {
  UpdateGroup group;
  const double* scalars = nullptr;
  float *values = nullptr, *gradients = nullptr, *momentum_buffer = nullptr;
  EmaRule ema;
  double momentum = 0;
  bool nesterov = false;
};

/// LAMB's norms are of tensors; each is cut into chunks. Both tables lie on the device (lamb_tables.h).
struct LambTensor {
  std::int64_t first_chunk = 0, num_chunks = 0;
  double lr_scale = 1, weight_decay = 0;  // weight_decay 0: not adapted, its ratio is 1
};
struct LambChunk {
  std::int64_t tensor = 0, begin = 0, end = 0;  // elements of the vectors
};

/// By lamb.h's formulas, for all groups in one call (three launches).
struct LambUpdate {
  const LambTensor* tensors = nullptr;
  const LambChunk* chunks = nullptr;
  std::int64_t num_tensors = 0, num_chunks = 0;
  const double* scalars = nullptr;
  float *values = nullptr, *gradients = nullptr, *exp_avg = nullptr, *exp_avg_sq = nullptr;
  EmaRule ema;
  double beta1 = 0, beta2 = 0, eps = 0;
  double max_grad_norm = 0;           // 0: gradients are not divided
  double* squares_scratch = nullptr;  // [2 * num_chunks]
  float* ratio_scratch = nullptr;     // [num_tensors]
};

/// The EMA alone, of what no optimizer changes: the floating buffers.
struct EmaUpdate {
  std::int64_t begin = 0, end = 0;  // elements of both vectors
  const double* scalars = nullptr;
  const float* values = nullptr;
  EmaRule ema;
};

}  // namespace cosub::kernels
