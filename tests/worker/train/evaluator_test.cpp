// The evaluator on one rank, and how ranks divide batches. Over several ranks: trainer_ranks_test.
#include "worker/train/evaluator.h"

#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"
#include "tests/worker/train/toy_stage.h"
#include "worker/collective/single_communicator.h"
#include "worker/data/eval_loader.h"

namespace cosub::train {
namespace {

TEST(ShareOf, GivesEachBatchToExactlyOneRank) {
  for (std::int64_t count : {0, 1, 5, 7, 100}) {
    for (std::int64_t world : {1, 2, 3, 8}) {
      std::int64_t next = 0;
      for (std::int64_t rank = 0; rank < world; ++rank) {
        collective::Range range = share_of(rank, world, count);
        EXPECT_EQ(range.begin, next);
        EXPECT_LE(range.end - range.begin, count / world + 1);
        next = range.end;
      }
      EXPECT_EQ(next, count);
    }
  }
}

class Evaluator : public ::testing::Test {
 protected:
  Evaluator() : file_(testing::toy_stage(folder_.path(), folder_ / "stage", testing::toy_vit(), 1)) {
    model_ = model::create(file_.stage.model, 5);
    val_ = data::open_source(file_.stage.data.val, 1, 4);
  }
  EvalResult run(std::int64_t batch_images, const model::Pass& pass = {}) {
    return evaluate(*model_, alone_,
                    {.source = val_,
                     .data = file_.stage.data,
                     .pass = pass,
                     .batch_images = batch_images,
                     .on_progress = {}});
  }

  testing::TemporaryFolder folder_;
  config::StageFile file_;
  std::shared_ptr<model::Backbone> model_;
  std::shared_ptr<const data::Source> val_;
  collective::SingleCommunicator alone_;
};

TEST_F(Evaluator, AgreesWithOneForwardOverAllImages) {
  EvalResult result = run(10);
  data::EvalBatch all =
      data::EvalLoader(
          val_, {.data = file_.stage.data, .image_size = 14, .num_images = 34, .batch_images = 34, .end = 1})
          .next();
  model_->eval();
  at::NoGradGuard no_grad;
  model_->seam().begin({.kind = model::Pass::Kind::kFull, .images = 34});
  at::Tensor logits = model_->forward(all.images);
  EXPECT_EQ(result.images, 34);
  EXPECT_DOUBLE_EQ(result.top1, logits.argmax(1).eq(all.labels).sum().item<double>() / 34);
  EXPECT_DOUBLE_EQ(result.top5, 1.0);  // of four classes
  EXPECT_NEAR(result.loss, at::cross_entropy_loss(logits, all.labels).item<double>(), 1e-5);
}

TEST_F(Evaluator, CountsEachImageOnceWhateverTheBatch) {
  for (std::int64_t batch : {1, 7, 34, 100}) {
    EXPECT_EQ(run(batch).images, 34);
    EXPECT_DOUBLE_EQ(run(batch).top1, run(34).top1);
  }
}

TEST_F(Evaluator, EvaluatesASubmodelAndKeepsTheMode) {
  model_->train();
  model::Pass pass;
  pass.kind = model::Pass::Kind::kSubmodel;
  pass.keep_block = model::parse_keep("first:1", model_->seam().num_blocks());
  EXPECT_NE(run(10, pass).loss, run(10).loss);
  EXPECT_TRUE(model_->is_training());
}

}  // namespace
}  // namespace cosub::train
