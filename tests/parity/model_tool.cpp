// `model_tool list|info|init|forward|step ARGS`: the worker's model tools without MPI and without the rest of
// the worker.
#include <cstdio>
#include <string_view>

#include "worker/tools/model_forward.h"
#include "worker/tools/model_info.h"
#include "worker/tools/model_step.h"

int main(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command == "forward") return cosub::run_model_forward(argc - 1, argv + 1);
  if (command == "list") return cosub::run_model_list(argc - 1, argv + 1);
  if (command == "info") return cosub::run_model_info(argc - 1, argv + 1);
  if (command == "init") return cosub::run_model_init(argc - 1, argv + 1);
  if (command == "step") return cosub::run_model_step(argc - 1, argv + 1);
  std::fprintf(stderr, "usage: model_tool list|info|init|forward|step ARGS (each has --help)\n");
  return 64;
}
