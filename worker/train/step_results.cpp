#include "worker/train/step_results.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <cmath>
#include <utility>

namespace cosub::train {

void StepResults::send(std::int64_t step, double learning_rate, const at::Tensor& numbers) {
  Sent& sent = sent_.emplace_back(Sent{step, learning_rate, {}, nullptr});
  const at::Device device = numbers.device();
  if (device.is_cpu()) {
    sent.numbers = numbers.clone();
    return;
  }
  sent.numbers = at::empty({kNumbers}, at::TensorOptions(at::kDouble).pinned_memory(true));
  sent.numbers.copy_(numbers, /*non_blocking=*/true);
  sent.copied = std::make_unique<c10::Event>(device.type());
  sent.copied->record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
}

std::optional<StepOutcome> StepResults::take() {
  if (sent_.empty()) return std::nullopt;
  const Sent sent = std::move(sent_.front());
  sent_.pop_front();
  if (sent.copied) sent.copied->synchronize();
  const double* numbers = sent.numbers.const_data_ptr<double>();
  return StepOutcome{.step = sent.step,
                     .loss = numbers[kLoss],
                     .correct = numbers[kCorrect],
                     .images = std::llround(numbers[kImages]),
                     .bad_samples = std::llround(numbers[kBadSamples]),
                     .gradient_norm = numbers[kNorm],
                     .learning_rate = sent.learning_rate,
                     .skipped = numbers[kFinite] == 0,
                     .word = {.stop = numbers[kStop] > 0, .checkpoint = numbers[kCheckpoint] > 0}};
}

}  // namespace cosub::train
