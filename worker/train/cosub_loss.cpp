#include "worker/train/cosub_loss.h"

namespace cosub::train {
namespace {

at::Tensor probabilities(const at::Tensor& logits, config::LossKind loss) {
  return loss == config::LossKind::kBce ? at::sigmoid(logits) : at::softmax(logits, 1);
}

}  // namespace

at::Tensor label_loss(const at::Tensor& logits, const at::Tensor& targets,
                      const config::CosubConfig& options) {
  TORCH_CHECK(logits.dim() == 2 && logits.sizes() == targets.sizes(), "label_loss: logits ", logits.sizes(),
              " and targets ", targets.sizes(), " must both be [rows, classes]");
  if (options.loss == config::LossKind::kCe) return -(targets * at::log_softmax(logits, 1)).sum(1).mean();
  if (options.bce_reduction == config::BceReduction::kMean) {
    return at::binary_cross_entropy_with_logits(logits, targets, {}, {}, at::Reduction::Mean);
  }
  return at::binary_cross_entropy_with_logits(logits, targets, {}, {}, at::Reduction::Sum) /
         static_cast<double>(logits.size(0));
}

at::Tensor cosub_loss(const at::Tensor& logits, const at::Tensor& targets, const config::CosubConfig& options,
                      double lambda) {
  return cosub_loss(logits, targets, options,
                    lambda == 0.0 ? at::Tensor() : at::full({}, lambda, targets.options()));
}

at::Tensor cosub_loss(const at::Tensor& logits, const at::Tensor& targets, const config::CosubConfig& options,
                      const at::Tensor& lambda) {
  if (!options.enabled) return label_loss(logits, targets, options);
  TORCH_CHECK(logits.dim() == 2 && logits.size(0) == 2 * targets.size(0), "cosub_loss: logits ",
              logits.sizes(), " must have two rows for each row of targets ", targets.sizes());
  // Both kinds of L are affine in the target, and a mean over 2B rows is the mean of the halves' means; so
  // the four terms are one: L over all 2B rows against (1-lambda) y + lambda p(the other half).
  at::Tensor mixed = at::cat({targets, targets});
  if (lambda.defined()) {
    const at::Tensor p = probabilities(logits.detach(), options.loss);
    const at::Tensor other =
        at::cat({p.narrow(0, targets.size(0), targets.size(0)), p.narrow(0, 0, targets.size(0))});
    mixed = at::lerp(mixed, other.to(mixed.scalar_type()), lambda);
  }
  return label_loss(logits, mixed, options);
}

}  // namespace cosub::train
