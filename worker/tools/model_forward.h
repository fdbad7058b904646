// `cosub-worker model forward`: logits and features of a model in eval mode, for comparisons with other
// programs. Input file: input [B, C, S, S]. Output file: logits [B, classes], features [B, num_features].
#pragma once

namespace cosub {

/// argv[0] is the subcommand's own name. Returns an ExitCode.
int run_model_forward(int argc, char** argv);

}  // namespace cosub
