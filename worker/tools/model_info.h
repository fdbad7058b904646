// `cosub-worker model list`, `model info` and `model init`: which models there are, what one of them costs,
// and its initial weights.
#pragma once

namespace cosub {

/// argv[0] is the subcommand's own name. Return an ExitCode.
int run_model_list(int argc, char** argv);
int run_model_info(int argc, char** argv);
int run_model_init(int argc, char** argv);

}  // namespace cosub
