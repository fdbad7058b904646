// Which of LibTorch's attention kernels is the fastest for a shape. All state is behind a lock; the flags of
// at::globalContext() that say which kernels may be taken are the process's, so nobody else may change them
// while attention runs.
#pragma once

#include <ATen/ATen.h>
#include <ATen/SDPBackend.h>

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <tuple>
#include <vector>

namespace cosub::model {

/// As of fused_attention.h; bias may be undefined. Refers to the caller's tensors.
struct AttentionCall {
  const at::Tensor &q, &k, &v, &bias;
};

/// By the kernel that LibTorch chooses.
at::Tensor attend(const AttentionCall& call);

/// What the choice depends on, without the number of rows: that of a branch may differ from step to step.
/// With gradients even where there are none yet (a branch that is computed again in the backward pass), but
/// in inference mode.
struct AttentionShape {
  explicit AttentionShape(const AttentionCall& call);

  std::int64_t heads, queries, keys, width;
  at::ScalarType dtype;
  bool has_bias, differentiates;

  auto key() const { return std::tie(heads, queries, keys, width, dtype, has_bias, differentiates); }
  bool operator<(const AttentionShape& other) const { return key() < other.key(); }
};

/// While it lives LibTorch takes the first of these that can compute a call, and throws where none can. One
/// named twice counts once.
class OnlyBackends {
 public:
  explicit OnlyBackends(std::vector<at::SDPBackend> backends);
  ~OnlyBackends();
  OnlyBackends(const OnlyBackends&) = delete;
  OnlyBackends& operator=(const OnlyBackends&) = delete;

 private:
  static void allow(bool flash, bool efficient, bool cudnn, bool math);
  static void set_order(const std::vector<at::SDPBackend>& order);

  bool flash_, efficient_, cudnn_, math_;
  std::vector<at::SDPBackend> order_;
};

/// Those of `backends` that can compute the call and its gradients, the bias's too, in their order. Asked
/// before they are wanted, so that a branch that is computed again takes the same one.
std::vector<at::SDPBackend> usable_backends(const AttentionCall& call,
                                            const std::vector<at::SDPBackend>& backends);

/// Seconds of the call and its gradients (in inference mode, of the call alone) on the call's device, which
/// is waited for. Leaves no gradients behind.
double seconds_of(const AttentionCall& call, at::SDPBackend backend);

class AttentionTuner {
 public:
  using Seconds = std::function<double(const AttentionCall& call, at::SDPBackend backend)>;

  /// `preference`: the kernels to choose from. A later one must be faster than an earlier one by a twentieth,
  /// so that noise does not decide, and runs on like cards agree.
  AttentionTuner(std::vector<at::SDPBackend> preference, Seconds seconds)
      : preference_(std::move(preference)), seconds_(std::move(seconds)) {}

  /// Nothing where none of them can compute the call. Measures at a shape's first call; a kernel that throws
  /// then (cuDNN may find no plan) counts as one that cannot.
  std::optional<at::SDPBackend> choose(const AttentionCall& call);
  /// By the kernel that it chooses. The bias may be of any dtype and layout.
  at::Tensor attend(const AttentionCall& call);

 private:
  std::optional<at::SDPBackend> fastest(const AttentionShape& shape, const AttentionCall& call) const;
  std::optional<double> measured(const AttentionCall& call, at::SDPBackend backend) const;

  const std::vector<at::SDPBackend> preference_;
  const Seconds seconds_;
  std::mutex mutex_;
  std::map<AttentionShape, std::optional<at::SDPBackend>> chosen_;
};

}  // namespace cosub::model
