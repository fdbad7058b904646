#include "common/config/difference.h"

#include <gmock/gmock.h>

#include "tests/common/config/pipelines.h"

namespace cosub::config {
namespace {

using ::testing::ElementsAre;

/// "stage|key|before|after" of each.
std::vector<std::string> differences(const std::vector<std::string>& before,
                                     const std::vector<std::string>& after) {
  std::vector<std::string> lines;
  for (const Difference& found : deciding_differences(parse(kValid, before), parse(kValid, after)))
    lines.push_back(found.stage + "|" + found.key + "|" + found.before + "|" + found.after);
  return lines;
}

TEST(ConfigDifference, NamesKeysWithBothValues) {
  EXPECT_THAT(differences({}, {"seed=8", "stages.pretrain.optimizer.lr=1e-4"}),
              ElementsAre("|seed|7|8", "pretrain|stages.pretrain.optimizer.lr|0.003|1e-04"));
}

TEST(ConfigDifference, IsNoneWhereNothingDecidesTheNumbers) {
  EXPECT_THAT(differences({}, {"name=other", "cluster.ranks=3", "defaults.checkpoint.keep=9"}),
              ElementsAre());
}

TEST(ConfigDifference, OfWhatIsNotThereIsNothing) {
  EXPECT_THAT(differences({}, {"stages.finetune.model.arch.stem_width=8"}),
              ElementsAre("finetune|stages.finetune.model.arch.stem_width|nothing|8",
                          "evaluate|stages.evaluate.model.arch.stem_width|nothing|8",
                          "export|stages.export.model.arch.stem_width|nothing|8"));
}

TEST(ConfigDifference, GoesIntoListsOfOneLength) {
  EXPECT_THAT(
      differences({}, {"stages.evaluate.submodels=[{name: even, keep: even}, {name: some, keep: odd}]"}),
      ElementsAre("evaluate|stages.evaluate.submodels[1].keep|\"0,2,5\"|odd"));
  EXPECT_THAT(
      differences({"stages.evaluate.submodels=[]"}, {"stages.evaluate.submodels=[{name: a, keep: odd}]"}),
      ElementsAre("evaluate|stages.evaluate.submodels|[]|[{name: a, keep: odd, branch_scale: 1}]"));
}

TEST(ConfigDifference, NamesStagesThatCameAndWent) {
  EXPECT_THAT(differences({}, {"stages.export.name=model"}),
              ElementsAre("export|stages.export|a stage|nothing", "model|stages.model|nothing|a stage"));
}

}  // namespace
}  // namespace cosub::config
