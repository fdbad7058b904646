// The sum over microbatches where groups of G ranks handle bundles of G neighbouring ones, one each. Place c
// of all bundles is summed over the ranks that own it (a "column": one rank of each group), over bundle
// indices; then each group adds its G columns likewise. Both orders are fixed by the number of bundles and G
// alone.
#pragma once

#include <memory>

#include "worker/collective/reduction/bucket_exchange.h"

namespace cosub::collective {

class GroupedExchange final : public BucketExchange {
 public:
  GroupedExchange(std::unique_ptr<Communicator> column, std::unique_ptr<BucketExchange> over_bundles,
                  std::unique_ptr<BucketExchange> over_places)
      : column_(std::move(column)),
        over_bundles_(std::move(over_bundles)),
        over_places_(std::move(over_places)) {}

  void exchange(std::size_t bucket, const std::vector<at::Tensor>& sums, const std::string& what) override {
    over_bundles_->exchange(bucket, sums, what + ", over bundles");
    over_places_->exchange(bucket, {over_bundles_->total(sums)}, what + ", over places");
  }
  at::Tensor total(const std::vector<at::Tensor>& sums) override {
    return over_places_->total({over_bundles_->total(sums)});
  }
  void settle(const at::Tensor& applies) override {
    over_bundles_->settle(applies);
    over_places_->settle(applies);
  }
  std::vector<at::Tensor> kept() const override {
    std::vector<at::Tensor> kept = over_bundles_->kept();
    for (const at::Tensor& tensor : over_places_->kept()) kept.push_back(tensor);
    return kept;
  }

 private:
  std::unique_ptr<Communicator> column_;  // outlives over_bundles_, which uses it
  std::unique_ptr<BucketExchange> over_bundles_, over_places_;
};

}  // namespace cosub::collective
