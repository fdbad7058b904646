#include "worker/model/parallel_pieces.h"

#include <exception>

namespace cosub::model {

void in_parallel(std::int64_t num_pieces, const std::function<void(std::int64_t)>& work) {
  std::exception_ptr error;
#pragma omp parallel for schedule(dynamic) if (num_pieces > 1)
  for (std::int64_t i = 0; i < num_pieces; ++i) {
    try {
      work(i);
    } catch (...) {
#pragma omp critical(cosub_in_parallel)
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace cosub::model
