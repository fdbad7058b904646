// `cosub-worker model step`: loss and gradients of one recorded microbatch, for comparisons with other
// programs. Input file:
//   input [B, C, S, S], target [B, classes] (floating point)
//   kept.I int64 [n] and scale.I (one number): rows that branch I keeps, as indices into the 2B rows, and the
//   factor of its output; a branch without them keeps all rows. When the file has none at all, rows are drawn
//   as in training from --drop-rate, --depth, --stream, --step and --microbatch.
//   Metadata of worker/train/recorded_step.h stands for options that are not given.
// Output file:
//   logits [2B, classes], loss (a number), grad.NAME for each parameter,
//   bn.NAME.mean and bn.NAME.var (unbiased) [channels] for each BatchNorm layer, kept.I and scale.I as used
#pragma once

namespace cosub {

/// argv[0] is the subcommand's own name. Returns an ExitCode.
int run_model_step(int argc, char** argv);

}  // namespace cosub
