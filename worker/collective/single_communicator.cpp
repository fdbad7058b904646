#include "worker/collective/single_communicator.h"

#include <cstdlib>
#include <stdexcept>

#include "worker/collective/tensor_checks.h"

namespace cosub::collective {

// Tensors are checked as MPI would, so that a mistake shows on one rank too. Any device serves.

void SingleCommunicator::all_reduce_sum(at::Tensor& tensor, const std::string&) {
  check_tensor(tensor, tensor.device().type(), "all_reduce_sum");
}

void SingleCommunicator::all_reduce_sum_buckets(std::vector<at::Tensor>& buckets, const std::string& what) {
  for (auto& bucket : buckets) all_reduce_sum(bucket, what);
}

void SingleCommunicator::broadcast(at::Tensor& tensor, std::int64_t root, const std::string&) {
  if (root != 0) throw std::logic_error("broadcast: root must be 0 in a world of one rank");
  check_tensor(tensor, tensor.device().type(), "broadcast");
}

void SingleCommunicator::all_to_all(const std::vector<at::Tensor>& send, std::vector<at::Tensor>& recv,
                                    const std::string&) {
  if (send.size() != 1 || recv.size() != 1)
    throw std::logic_error("all_to_all: needs one tensor for each of 1 ranks");
  copy_own(send[0], recv[0]);
}

void SingleCommunicator::all_gather(const at::Tensor& mine, std::vector<at::Tensor>& all,
                                    const std::string&) {
  if (all.size() != 1) throw std::logic_error("all_gather: needs one tensor for each of 1 ranks");
  copy_own(mine, all[0]);
}

std::vector<std::string> SingleCommunicator::all_gather_text(const std::string& mine, const std::string&) {
  return {mine};
}

void SingleCommunicator::barrier(const std::string&) {}

std::unique_ptr<Communicator> SingleCommunicator::split(std::int64_t, const std::string&) {
  auto part = std::make_unique<SingleCommunicator>();
  part->set_limit(limit());
  return part;
}

void SingleCommunicator::abort(int exit_code) {
  std::_Exit(exit_code);
}

}  // namespace cosub::collective
