// `cosub-worker model list` and `model info`: which models there are, and what one of them costs.
#pragma once

namespace cosub {

/// argv[0] is the subcommand's own name. Return an ExitCode.
int run_model_list(int argc, char** argv);
int run_model_info(int argc, char** argv);

}  // namespace cosub
