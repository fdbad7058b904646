// Independent pieces of work over OpenMP's threads, of which at::set_num_threads says how many there are
// (at::parallel_for is sequential where its caller is compiled without OpenMP, and all but this is).
#pragma once

#include <cstdint>
#include <functional>

namespace cosub::model {

/// work(i) for each i in [0, num_pieces), in any order, on the caller's and other threads; returns when all
/// are done. The first exception that `work` throws is thrown again here, after the others have ended.
void in_parallel(std::int64_t num_pieces, const std::function<void(std::int64_t)>& work);

}  // namespace cosub::model
