#include "worker/collective/reduction/compressed_exchange.h"

namespace cosub::collective {
namespace {

// Communicators move bytes of any meaning, but add numbers of float32 at least.
at::Tensor as_bytes(const at::Tensor& tensor) {
  return tensor.view(at::kByte);
}

}  // namespace

CompressedExchange::CompressedExchange(Communicator& communicator, Options options)
    : communicator_(communicator), options_(std::move(options)) {
  if (!options_.has_leaves) zeros_ = at::zeros({options_.size}, options_.tensor);
  if (!options_.error_feedback) return;
  lost_ = at::zeros({options_.size}, options_.tensor);
  losing_ = at::zeros_like(lost_);
}

at::Tensor CompressedExchange::rounded(const at::Tensor& part, Range range) {
  if (!lost_.defined()) return part.to(at::kBFloat16);
  const at::Tensor wanted = part + part_of(lost_, range);
  const at::Tensor sent = wanted.to(at::kBFloat16);
  part_of(losing_, range).copy_(wanted - sent);
  return sent;
}

void CompressedExchange::settle(const at::Tensor& applies) {
  if (lost_.defined()) at::where_out(lost_, applies, losing_, lost_);
}

std::vector<at::Tensor> CompressedExchange::kept() const {
  return lost_.defined() ? std::vector{lost_} : std::vector<at::Tensor>{};
}

void CompressedExchange::exchange(std::size_t bucket, const std::vector<at::Tensor>& sums,
                                  const std::string& what) {
  const Range range = options_.buckets.at(bucket);
  at::Tensor part = part_of(total(sums), range);
  if (zeros_.defined()) part.zero_();
  if (range.end > options_.first_exact) {
    communicator_.all_reduce_sum(part, what);
    return;
  }
  const auto world_size = communicator_.world_size();
  const at::Tensor mine = rounded(part, range), all = at::empty_like(mine);
  const auto slice = [&](const at::Tensor& whole, std::int64_t r) {
    return part_of(whole, slice_of({0, whole.numel()}, r, world_size));
  };
  const std::int64_t own_size = slice(mine, communicator_.rank()).numel();
  std::vector<at::Tensor> send, recv, gathered, received;
  for (std::int64_t r = 0; r < world_size; ++r) {
    received.push_back(at::empty({own_size}, mine.options()));
    send.push_back(as_bytes(slice(mine, r)));
    recv.push_back(as_bytes(received.back()));
    gathered.push_back(as_bytes(slice(all, r)));
  }
  communicator_.all_to_all(send, recv, what + ", rounded slices");
  at::Tensor sum = received[0].to(part.scalar_type());
  for (std::size_t r = 1; r < received.size(); ++r) sum.add_(received[r]);
  communicator_.all_gather(as_bytes(sum.to(at::kBFloat16)), gathered, what + ", slices of the rounded sum");
  part.copy_(all);
}

at::Tensor CompressedExchange::total(const std::vector<at::Tensor>& sums) {
  return zeros_.defined() ? zeros_ : sums.at(0);
}

}  // namespace cosub::collective
