// A world of one rank, without MPI: every operation ends at once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/collective/communicator.h"

namespace cosub::collective {

class SingleCommunicator final : public Communicator {
 public:
  std::int64_t rank() const override { return 0; }
  std::int64_t world_size() const override { return 1; }
  std::int64_t local_rank() const override { return 0; }
  std::string name() const override { return "single"; }

  void all_reduce_sum(at::Tensor& tensor, const std::string& what) override;
  void all_reduce_sum_buckets(std::vector<at::Tensor>& buckets, const std::string& what) override;
  void broadcast(at::Tensor& tensor, std::int64_t root, const std::string& what) override;
  void all_to_all(const std::vector<at::Tensor>& send, std::vector<at::Tensor>& recv,
                  const std::string& what) override;
  void all_gather(const at::Tensor& mine, std::vector<at::Tensor>& all, const std::string& what) override;
  std::vector<std::string> all_gather_text(const std::string& mine, const std::string& what) override;
  void barrier(const std::string& what) override;
  std::unique_ptr<Communicator> split(std::int64_t color, const std::string& what) override;
  bool concurrent() const override { return true; }
  [[noreturn]] void abort(int exit_code) override;
};

}  // namespace cosub::collective
