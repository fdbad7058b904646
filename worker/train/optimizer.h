// What turns gradients into new weights: one rule per file (adamw.h, lamb.h, sgd.h) over the flat vectors of
// FlatState. No rule waits for the device. Used by the trainer's thread.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/config/pipeline.h"
#include "worker/kernels/kernels.h"
#include "worker/train/ema.h"
#include "worker/train/flat_state.h"
#include "worker/train/update_scalars.h"

namespace cosub::train {

/// Neighbouring parameters that are treated alike.
struct ParameterGroup {
  std::int64_t begin = 0, end = 0;  // elements of the vector, padding included
  double lr_scale = 1.0;            // layer-wise decay: factor of the learning rate
  bool decays = true;               // whether weight decay applies
  std::vector<Slot> parameters = {};
};

/// In the vector's order. `layers`: by name, from 0 (the stem) up (model::layer_ids); a parameter of layer i
/// out of n learns at layer_decay^(n - 1 - i) of the rate, as timm's param_groups_layer_decay says. Empty:
/// all alike.
std::vector<ParameterGroup> parameter_groups(const FlatState& state,
                                             const std::map<std::string, std::int64_t>& layers,
                                             double layer_decay);

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  /// values, gradients: [num_parameters], of one dtype (float32 or float64) and device; values are changed in
  /// place, gradients may be. `step` counts updates from 0.
  virtual void update(at::Tensor values, at::Tensor gradients, std::int64_t step, double learning_rate) = 0;
  /// The same by numbers on the device. Clips the gradients, and lets the average (nullptr: none) follow the
  /// values; changes nothing where the step does not apply. On a GPU in one pass over memory, by our kernels.
  void update(const at::Tensor& values, const at::Tensor& gradients, const UpdateScalars& scalars, Ema* ema);

  /// What the rule remembers, by the names that a checkpoint uses; laid out like values.
  const std::map<std::string, at::Tensor>& state() const { return state_; }

 protected:
  Optimizer(config::OptimizerConfig options, std::vector<ParameterGroup> groups)
      : options_(std::move(options)), groups_(std::move(groups)) {}
  at::Tensor add_state(const std::string& name, const at::Tensor& like);
  struct Launch {
    const kernels::Kernels& kernels;
    kernels::Stream stream;
    const double* scalars;
    float *values, *gradients;
    kernels::EmaRule ema;
  };
  /// The update of all groups, with the average, by kernels.
  virtual void launch(const Launch& with) = 0;

  config::OptimizerConfig options_;
  std::vector<ParameterGroup> groups_;

 private:
  std::map<std::string, at::Tensor> state_;
};

/// The rule that options.name says. parameters: [n], for size, dtype and device. ConfigError for a name that
/// is none.
std::unique_ptr<Optimizer> make_optimizer(const config::OptimizerConfig& options,
                                          std::vector<ParameterGroup> groups, const at::Tensor& parameters);
/// For a model's parameters; `layers` as in parameter_groups.
std::unique_ptr<Optimizer> make_optimizer(const config::OptimizerConfig& options, FlatState& state,
                                          const std::map<std::string, std::int64_t>& layers = {});

/// Scales `gradients` in place so that their L2 norm is at most max_norm (0: leaves them), as
/// torch.nn.utils.clip_grad_norm_ does. `norm` is what global_norm returned for them.
void clip_to_norm(at::Tensor gradients, double norm, double max_norm);

/// L2 norm in double precision, summed in one fixed order (on a GPU: for one card): [], double, on their
/// device.
at::Tensor norm_of(const at::Tensor& gradients);
double global_norm(const at::Tensor& gradients);

}  // namespace cosub::train
