// Loading weights into a model: strictly, with every problem in one message, at another image size where the
// architecture allows it.
#pragma once

#include "worker/model/model.h"

namespace cosub::model {

enum class HeadPolicy {
  kKeep,     // the classifier's weights are loaded like all others
  kReplace,  // the classifier stays as initialised; weights given for it are ignored, of whatever class count
};

/// Copies `state` (by timm's names, any floating dtype) into the model's live tensors. What
/// depends on the image's size is resampled (Backbone::resample). DataError saying how many tensors fit, with
/// the first of the missing, unexpected and mis-shaped ones, nearest names beside them, and the number of the
/// others; the model is unchanged then. `origin` (a path) is for messages.
void load_state(Backbone& backbone, std::map<std::string, at::Tensor> state, HeadPolicy head,
                const std::string& origin);

}  // namespace cosub::model
