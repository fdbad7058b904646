// What a step tells the host: its sums, its gradients' norm, what the ranks agreed on. On a GPU these numbers
// travel while the next step runs: whoever asks for them does not wait for the device, and learns of a step
// when the one after it is queued. Used by the trainer's thread.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/Event.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

namespace cosub::train {

/// What a rank wants of the step boundary; after the reduction, what any rank wanted.
struct Word {
  bool stop = false;
  bool checkpoint = false;
};

struct StepOutcome {
  std::int64_t step = 0;
  double loss = 0;  // mean over the global batch
  double correct =
      0;  // images whose views predict the target's largest class; half an image where one of two does
  std::int64_t images = 0;
  std::int64_t bad_samples = 0;  // that the microbatches name
  double gradient_norm = 0;      // before clipping
  double learning_rate = 0;
  bool skipped = false;  // not finite: nothing was updated
  Word word;
};

class StepResults {
 public:
  /// Places of the sums over all ranks at the end of a step's vector.
  enum Sum : std::int64_t { kLoss, kCorrect, kImages, kBadSamples, kStop, kCheckpoint, kSums };
  /// And of what is sent: those, the norm, and 1 or 0 for a step that is finite or not.
  enum Number : std::int64_t { kNorm = kSums, kFinite, kNumbers };

  /// `late`: an outcome may be had when the step after it has been sent, otherwise at once.
  explicit StepResults(bool late) : late_(late) {}

  /// Starts the copy of `numbers` ([kNumbers] float64, on any device; may change afterwards).
  void send(std::int64_t step, double learning_rate, const at::Tensor& numbers);
  /// The oldest outcome that is due, or none.
  std::optional<StepOutcome> take_due() { return sent_.size() > (late_ ? 1u : 0u) ? take() : std::nullopt; }
  /// The oldest that has been sent; waits for the device. None: all have been taken.
  std::optional<StepOutcome> take();

 private:
  struct Sent {
    std::int64_t step;
    double learning_rate;
    at::Tensor numbers;                  // on the host
    std::unique_ptr<c10::Event> copied;  // null: at once
  };

  bool late_;
  std::deque<Sent> sent_;
};

}  // namespace cosub::train
