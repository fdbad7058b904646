#include <gmock/gmock.h>

#include "tests/common/config/pipelines.h"
#include "tests/support/temporary_folder.h"

namespace cosub::config {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(ConfigErrors, NameFileLineColumnKeyFoundAndAllowed) {
  EXPECT_EQ(refusal(with("lr: 3e-3", "lr: abc")),
            "p.yaml:20:11: stages[0].optimizer.lr: found 'abc'; allowed: a number > 0.");
}

TEST(ConfigErrors, NameTheNearestKey) {
  EXPECT_EQ(
      refusal(with("    optimizer:", "    optimiser:")),
      "p.yaml:19:5: stages[0].optimiser: unknown key 'optimiser'; allowed: name, task, after, init, "
      "model, data, "
      "cosub, optimizer, schedule, batch, ema, ema_warmup, checkpoint, reduction, exchange, "
      "sync_batchnorm, threads, precision, non_finite, check_parameters_every_steps, device, cuda_graph, "
      "attention, log_every_steps, collective_timeout, submodels. Did you mean 'optimizer'?");
  EXPECT_THAT(refusal(with("    optimizer:\n      lr: 3e-3", "    lr: 3e-3")),
              HasSubstr("Did you mean 'optimizer.lr'?"));
}

TEST(ConfigErrors, AreAllReportedTogetherInTheOrderOfTheFile) {
  std::string yaml = with("lr: 3e-3", "lr: -1");
  yaml.replace(yaml.find("seed: 7"), 7, "seed: x");
  EXPECT_EQ(refusal(yaml),
            "p.yaml:2:7: seed: found 'x'; allowed: a whole number from 0 to 18446744073709551615.\n"
            "p.yaml:20:11: stages[0].optimizer.lr: found '-1'; allowed: a number > 0.");
}

TEST(ConfigErrors, AreSortedByLineHoweverLateTheyAreFound) {
  const std::string message = refusal(with("warmup_epochs: 0.5", "warmup_epochs: 3"), {"name=/"});
  EXPECT_LT(message.find("stages[0].schedule.warmup_epochs"), message.find("--set name"));
  std::string yaml = with("warmup_epochs: 0.5", "warmup_epochs: 3");
  yaml.replace(yaml.find("ranks: 2"), 8, "ranks: 5");
  EXPECT_LT(refusal(yaml).find("p.yaml:3:"), refusal(yaml).find("p.yaml:23:"));
}

TEST(ConfigErrors, InDefaultsAreReportedOnceAndWhereTheyStand) {
  EXPECT_EQ(refusal(with("ema: 0.99", "ema: 1.5")),
            "p.yaml:11:8: defaults.ema: found '1.5'; allowed: a number >= 0 and < 1.");
}

TEST(ConfigErrors, OfWordsNameTheNearestWord) {
  EXPECT_THAT(refusal(with("    optimizer:", "    cosub: {loss: bse}\n    optimizer:")),
              HasSubstr("stages[0].cosub.loss: found 'bse'; allowed: bce or ce. Did you mean 'bce'?"));
  EXPECT_THAT(refusal(with("task: evaluate", "task: evaluat")), HasSubstr("Did you mean 'evaluate'?"));
}

TEST(ConfigErrors, OfKeysThatTheChosenRuleDoesNotHave) {
  const auto optimizer = [](const std::string& keys) {
    return with("\n      lr: 3e-3", " {lr: 3e-3, " + keys + "}");
  };
  EXPECT_EQ(
      refusal(optimizer("momentum: 0.8, max_grad_norm: 2")),
      "p.yaml:19:37: stages[0].optimizer.momentum: found '0.8' with name: adamw, which has no momentum; "
      "allowed: with name: sgd.\n"
      "p.yaml:19:57: stages[0].optimizer.max_grad_norm: found '2' with name: adamw, which has no "
      "max_grad_norm; allowed: with name: lamb.");
  EXPECT_THAT(refusal(optimizer("name: sgd, weight_decay: 1e-4, beta2: 0.95")), HasSubstr("adamw or lamb."));
  EXPECT_THAT(refusal(with("epochs: 3", "epochs: 3\n      decay_rate: 0.5")),
              HasSubstr("schedule.decay_rate: found '0.5' with name: cosine"));
  EXPECT_THAT(refusal(kValid, {"defaults.optimizer.momentum=0.8"}), HasSubstr("has no momentum"));
  EXPECT_NO_THROW(
      parse(optimizer("momentum: 0.9, nesterov: true")));  // their defaults, as a resolved file has them
}

/// A --set of the stage itself is no value that came along, whatever the stage's file says.
TEST(ConfigErrors, OfKeysThatTheChosenRuleDoesNotHaveAreOfSetToo) {
  const std::string yaml = with("      lr: 3e-3", "      name: adamw\n      lr: 3e-3");
  EXPECT_THAT(
      refusal(yaml, {"stages.0.optimizer.max_grad_norm=0.001"}),
      HasSubstr("found '0.001' with name: adamw, which has no max_grad_norm; allowed: with name: lamb."));
  EXPECT_THAT(refusal(yaml, {"stages.0.optimizer.name=sdg", "stages.0.optimizer.momentum=0.8"}),
              Not(HasSubstr("which has no momentum")));  // nobody knows yet with which
  EXPECT_THAT(refusal(yaml, {"stages.0.schedule.decay_epochs=3"}), HasSubstr("which has no decay_epochs"));
}

TEST(ConfigErrors, ARunsPrintedFormHasOnlyTheKeysOfItsRules) {
  const std::string printed = to_yaml(parse(with("      lr: 3e-3", "      name: adamw\n      lr: 3e-3")));
  EXPECT_THAT(printed, HasSubstr("beta2:"));
  EXPECT_THAT(printed, Not(HasSubstr("max_grad_norm:")));
  EXPECT_THAT(printed, Not(HasSubstr("decay_rate:")));
}

TEST(ConfigErrors, OfANewClassifiersScaleWithoutOne) {
  EXPECT_THAT(
      refusal(kValid, {"stages.0.init.head_scale=0.001"}),
      HasSubstr("init.head_scale: found 0.001 with init.head keep; allowed: 1, or init.head: replace."));
  EXPECT_THAT(refusal(kValid, {"stages.0.init.head_scale=0.001", "stages.0.init.head=replace"}),
              HasSubstr("init.head_scale: found 0.001 without weights that a classifier is replaced in"));
}

TEST(ConfigErrors, LeaveOutWhatDefaultsHoldForAnotherRule) {
  const PipelineConfig pipeline = parse(with("      lr: 3e-3", "      name: adamw\n      lr: 3e-3"),
                                        {"defaults.optimizer.name=sgd", "defaults.optimizer.momentum=0.8",
                                         "defaults.optimizer.weight_decay=0"});
  EXPECT_EQ(pipeline.stages[0].optimizer.momentum, OptimizerConfig().momentum);
  EXPECT_EQ(pipeline.stages[1].optimizer.momentum, 0.8);
}

TEST(ConfigErrors, OfSgdAskForItsDecayAndAMomentumToLookAhead) {
  EXPECT_THAT(refusal(with("lr: 3e-3", "name: sgd")),
              HasSubstr("optimizer.weight_decay: found nothing with optimizer.name sgd"));
  EXPECT_NO_THROW(parse(with("lr: 3e-3", "name: sgd\n      weight_decay: 0")));
  EXPECT_THAT(refusal(with("lr: 3e-3", "name: sgd\n      weight_decay: 0\n      momentum: 0")),
              HasSubstr("nesterov"));
}

TEST(ConfigErrors, OfLearningRatesAboveTheirPeak) {
  EXPECT_THAT(
      refusal(with("warmup_epochs: 0.5", "warmup_lr: 0.01")),
      HasSubstr("schedule.warmup_lr: found 0.01 with optimizer.lr 0.003, the peak; allowed: at most 0.003."));
  EXPECT_THAT(refusal(with("warmup_epochs: 0.5", "min_lr: 1")), HasSubstr("schedule.min_lr: found 1 with"));
}

TEST(ConfigErrors, OfADropRateThatWholeRowsDoNotReach) {
  const auto rate = [](const std::string& keys) {
    return with("image_size: 28", "image_size: 28\n      " + keys);
  };
  EXPECT_THAT(
      refusal(rate("drop_rate: 0.15"), {"defaults.batch.micro=16"}),
      HasSubstr(
          "model.drop_rate: found 0.15 with batch.micro 16, of which 14 rows would be kept, a drop rate "
          "of 0.125; allowed: 0.125, a larger batch.micro, "));
  EXPECT_NO_THROW(parse(rate("drop_rate: 0.15")));
  EXPECT_NO_THROW(
      parse(rate("drop_rate: 0.15\n      allow_rounded_drop_rate: true"), {"defaults.batch.micro=16"}));
  EXPECT_NO_THROW(
      parse(rate("drop_rate: 0.15\n      stochastic_depth: bernoulli"), {"defaults.batch.micro=16"}));
}

TEST(ConfigErrors, OfTheLossNameWhatItCannotMean) {
  const auto cosub = [](const std::string& keys) {
    return with("    optimizer:", "    cosub: {" + keys + "}\n    optimizer:");
  };
  EXPECT_THAT(refusal(cosub("loss: ce, targets: binarize")),
              HasSubstr("cosub.targets: found binarize with cosub.loss ce"));
  EXPECT_THAT(refusal(cosub("loss: ce, bce_reduction: sum")),
              HasSubstr("cosub.bce_reduction: found sum with"));
  EXPECT_THAT(refusal(cosub("lambda_start: 0.3")),
              HasSubstr("lambda_start: found 0.3 without cosub.lambda_warmup_epochs"));
  EXPECT_NO_THROW(parse(cosub("loss: ce, lambda_start: 0.3, lambda_warmup_epochs: 1")));
}

TEST(ConfigErrors, OfRandAugmentNameTheSectionOfTheNotation) {
  EXPECT_NO_THROW(parse(kValid, {"defaults.data.augment.rand_augment=rand-m7-n3-mstd0.5-inc1"}));
  EXPECT_NO_THROW(parse(kValid, {"defaults.data.augment.rand_augment="}));
  EXPECT_THAT(
      refusal(with("    mean: [0.286]", "    augment: {rand_augment: rand-m9-q3-inc1}\n    mean: [0.286]")),
      HasSubstr("p.yaml:8:29: defaults.data.augment.rand_augment: RandAugment 'rand-m9-q3-inc1' at 'q3': "
                "known are m, n, p, mstd, mmax and inc, each with a number"));
}

TEST(ConfigErrors, OfShardsNameTheWrongRange) {
  const std::string idx = "train: {idx: {images: train-images.gz, labels: train-labels.gz}}";
  EXPECT_NO_THROW(parse(with(idx, "train: {shards: ['/d/{00..11}.tar', /e]}")));
  EXPECT_THAT(refusal(with(idx, "train: {shards: [/e, '/d/{8..7}.tar']}")),
              HasSubstr("p.yaml:6:26: defaults.data.train.shards[1]: /d/{8..7}.tar: '{8..7}' is no range; "
                        "expected {FIRST..LAST}"));
}

TEST(ConfigErrors, OfAClassMapNameWhereTheLabelsComeFrom) {
  const std::string idx = "train: {idx: {images: train-images.gz, labels: train-labels.gz}}";
  EXPECT_NO_THROW(parse(with(idx, "train: {folder: /d, class_map: /c.txt}")));
  EXPECT_EQ(
      refusal(with(idx, "train: {shards: [/d/0.tar], class_map: /c.txt}")),
      "p.yaml:6:44: defaults.data.train.class_map: found a class map beside shards, whose labels are in "
      "their index; allowed: none here; it is given to cosub data index --class-map FILE.");
  EXPECT_THAT(
      refusal(kValid, {"defaults.data.val.class_map=/c.txt"}),
      HasSubstr("data.val.class_map: found a class map beside idx, whose labels are numbers; allowed: "
                "none here."));
}

TEST(ConfigErrors, OfNvjpegNameWhatTheGpuDoesNotDo) {
  const std::vector<std::string> images = {
      "defaults.data.train.idx=null", "defaults.data.train.folder=/images", "defaults.data.decode=nvjpeg"};
  const auto refused = [&](const std::string& override_text) {
    std::vector<std::string> overrides = images;
    overrides.push_back(override_text);
    return refusal(kValid, overrides);
  };
  EXPECT_NO_THROW(parse(kValid, images));
  for (const char* allowed : {"defaults.data.augment=random_resized", "defaults.data.augment.erasing=0.5",
                              "defaults.data.mix={mixup: 0.8, cutmix: 1}", "defaults.device=cuda"}) {
    EXPECT_NO_THROW(parse(kValid, {images[0], images[1], images[2], allowed})) << allowed;
  }
  EXPECT_EQ(refusal(with("    mean: [0.286]", "    decode: nvjpeg\n    mean: [0.286]")),
            "p.yaml:6:18: defaults.data.train.idx: found pixels, which need no decoding, with data.decode "
            "nvjpeg; allowed: data.train.folder or data.train.shards, or data.decode: cpu.");
  EXPECT_THAT(refused("defaults.data.augment.crop=simple"),
              HasSubstr("data.augment.crop: found simple with data.decode nvjpeg; allowed: none or "
                        "random_resized, or data.decode: cpu."));
  EXPECT_THAT(refused("defaults.data.augment=three_augment"),
              AllOf(HasSubstr("three_augment: found true with"), HasSubstr("color_jitter: found 0.3 with")));
  EXPECT_THAT(refused("defaults.data.augment=rand_augment"), HasSubstr("found 'rand-m9-mstd0.5-inc1' with"));
  EXPECT_THAT(refused("defaults.data.augment.crop_padding_px=4"), HasSubstr("crop_padding_px: found 4 with"));
  EXPECT_THAT(refused("defaults.data.shrink_px=256"), HasSubstr("data.shrink_px: found 256 with"));
  EXPECT_THAT(refused("defaults.data.cache_gib=0.5"), HasSubstr("data.cache_gib: found 0.5 with"));
  EXPECT_THAT(refused("defaults.device=cpu"),
              HasSubstr("device: found cpu with data.decode nvjpeg; allowed: auto or cuda, or data.decode: "
                        "cpu."));
  EXPECT_THAT(refused("defaults.data.decode=gpu"), HasSubstr("found 'gpu'; allowed: cpu or nvjpeg."));
}

TEST(ConfigErrors, RefuseRoundedGradientsWhereTheSumsMustBeExact) {
  EXPECT_THAT(refusal(with("ema: 0.99", "exchange: {compress: bf16}")),
              HasSubstr("exchange.compress: found bf16 with reduction: ordered"));
  EXPECT_THAT(refusal(with("ema: 0.99", "exchange: {error_feedback: true}")),
              HasSubstr("exchange.error_feedback: found true without exchange.compress"));
}

TEST(ConfigErrors, SayWhatThisVersionDoesNotHave) {
  EXPECT_THAT(
      refusal(with("lr: 3e-3", "name: lars")),
      HasSubstr("found 'lars', which is not available in this version; allowed: adamw, lamb or sgd."));
  EXPECT_THAT(refusal(with("ranks: 2", "backend: slurm")),
              HasSubstr("not available in this version; allowed: mpirun."));
}

TEST(ConfigErrors, RefuseEverythingThatIsNoNumberInRange) {
  for (const char* lr :
       {"nan", "inf", "-inf", "1e-3x", "1e999", "0", "", "~", "[1]", "{a: 1}", "0x10", "1_000", "true"}) {
    EXPECT_THAT(refusal(with("lr: 3e-3", std::string("lr: ") + lr)),
                HasSubstr("stages[0].optimizer.lr: found "))
        << lr;
  }
  for (const char* classes : {"1.5", "1e1", "0", "-3", "99999999999999999999", "ten"}) {
    EXPECT_THAT(refusal(with("classes: 10", std::string("classes: ") + classes)),
                HasSubstr("stages[0].model.classes: found"))
        << classes;
  }
  EXPECT_NO_THROW(parse(with("lr: 3e-3", "lr: +1e-3")));
}

TEST(ConfigErrors, NameBoundsOfEachKey) {
  const auto stage = [](const std::string& keys) {
    return refusal(with("    optimizer:\n      lr: 3e-3", "    " + keys));
  };
  EXPECT_THAT(stage("cosub: {lambda: 1.1}"),
              HasSubstr("cosub.lambda: found '1.1'; allowed: a number from 0 to 1."));
  EXPECT_THAT(stage("optimizer: {beta1: 1}"),
              HasSubstr("optimizer.beta1: found '1'; allowed: a number >= 0 and < 1."));
  EXPECT_THAT(stage("optimizer: {clip_norm: -1}"),
              HasSubstr("clip_norm: found '-1'; allowed: a number >= 0."));
  EXPECT_THAT(stage("checkpoint: {keep: 0}"),
              HasSubstr("checkpoint.keep: found '0'; allowed: a whole number >= 1."));
  EXPECT_THAT(stage("threads: 0"), HasSubstr("threads: found '0'; allowed: a whole number from 1 to 1024."));
  EXPECT_THAT(stage("checkpoint: {every: 10 min}"),
              HasSubstr("checkpoint.every: found '10 min'; allowed: a duration"));
  EXPECT_THAT(refusal(with("channels: 1", "channels: 2")),
              HasSubstr("channels: found '2'; allowed: 1 or 3."));
  EXPECT_THAT(refusal(with("image_size: 28", "drop_rate: 1")), HasSubstr("drop_rate: found '1'"));
  EXPECT_THAT(refusal(with("epochs: 3", "epochs: 0")),
              HasSubstr("schedule.epochs: found '0'; allowed: a number > 0 and <= 1000000."));
  EXPECT_THAT(refusal(with("std: [0.353]", "std: [0]")), HasSubstr("defaults.data.std[0]: found '0'"));
}

TEST(ConfigErrors, NameThePresetsOfTransforms) {
  EXPECT_THAT(refusal(with("std: [0.353]", "std: [0.353]\n    augment: three_augmnt")),
              ::testing::AllOf(HasSubstr("defaults.data.augment: found 'three_augmnt'; allowed: "),
                               HasSubstr("three_augment_src or rand_augment"),
                               HasSubstr("Did you mean 'three_augment'?")));
  const PipelineConfig pipeline = parse(with("std: [0.353]", "std: [0.353]\n    augment: three_augment_src"));
  const AugmentConfig& augment = pipeline.stages.front().data.augment;
  EXPECT_EQ(augment.crop, Crop::kSimple);
  EXPECT_TRUE(augment.three_augment);
  EXPECT_EQ(augment.color_jitter, 0.3);
}

TEST(ConfigErrors, NameKeysThatDoNotFitTogether) {
  EXPECT_EQ(refusal(with("global: 128", "global: 100")),
            "p.yaml:10:19: defaults.batch.global: found 100 with batch.micro 32; allowed: a multiple of 32.");
  EXPECT_THAT(
      refusal(with("warmup_epochs: 0.5", "warmup_epochs: 3")),
      HasSubstr("p.yaml:23:22: stages[0].schedule.warmup_epochs: found 3 with schedule.epochs 3; allowed: a "
                "number >= 0 and < 3."));
  EXPECT_THAT(
      refusal(with("mean: [0.286]", "mean: [0.1, 0.2, 0.3]")),
      HasSubstr(
          "p.yaml:8:11: defaults.data.mean: found 3 numbers with model.channels 1; allowed: 1 numbers"));
  EXPECT_THAT(refusal(with("batch: {global: 128, micro: 32}",
                           "batch: {global: 4, micro: 1}\n  data: {mix: {mixup: 0.8}}")),
              HasSubstr("given twice, first in line 5"));
  EXPECT_THAT(refusal(kValid, {"defaults.batch.micro=1", "defaults.data.mix.cutmix=1"}),
              HasSubstr("--set defaults.batch.micro: found 1 with data.mix"));
}

TEST(ConfigErrors, NameTheLargestUsefulNumberOfRanks) {
  EXPECT_EQ(refusal(with("ranks: 2", "ranks: 5")),
            "p.yaml:3:18: cluster.ranks: found 5, but a step of stage 'pretrain' has 4 microbatches "
            "(batch.global 128 / "
            "batch.micro 32); allowed: 1 to 4; more ranks would have nothing to do.");
  EXPECT_NO_THROW(parse(with("ranks: 2", "ranks: 4")));
  // Stages that do not train divide images, not microbatches of a step.
  EXPECT_NO_THROW(parse(with("    init: {stage: finetune}\n",
                             "    init: {stage: finetune}\n    batch: {global: 1, micro: 1}\n")));
}

TEST(ConfigErrors, NameWhatSyncBatchnormCannotJoin) {
  const auto with_groups_of = [](const std::string& size) {
    return with("  ema: 0.99\n", "  ema: 0.99\n  sync_batchnorm: " + size + "\n");
  };
  EXPECT_NO_THROW(parse(with_groups_of("2")));
  EXPECT_EQ(refusal(with_groups_of("3")),
            "p.yaml:12:19: defaults.sync_batchnorm: found 3 with 4 microbatches a step (batch.global 128 / "
            "batch.micro 32); allowed: a divisor of 4, or another batch.global.");
  EXPECT_EQ(
      refusal(with_groups_of("4")),
      "p.yaml:3:18: cluster.ranks: found 2 with sync_batchnorm 4 in stage 'pretrain'; allowed: a multiple "
      "of 4, up to 4; or another sync_batchnorm.");
  EXPECT_THAT(refusal(with_groups_of("2"), {"stages.pretrain.model.stochastic_depth=bernoulli"}),
              HasSubstr("model.stochastic_depth: found bernoulli with sync_batchnorm 2, where a rank without "
                        "kept rows would leave the others waiting; allowed: fixed, or sync_batchnorm: 1."));
  EXPECT_NO_THROW(parse(kValid, {"stages.evaluate.sync_batchnorm=3"}));
}

TEST(ConfigErrors, NameSourcesThatExcludeEachOther) {
  const auto of_train = [](const std::string& key) {
    return refusal(kValid, {"stages.pretrain.data.train." + key});
  };
  for (const std::string key : {"folder=/d", "shards=/d/{00..11}.tar"}) {
    EXPECT_THAT(of_train(key), HasSubstr("data.train: found more than one source of images; allowed: one of "
                                         "folder, shards and idx."));
  }
  EXPECT_THAT(
      of_train("list=/d/train.txt"),
      HasSubstr("data.train.list: found a list of files without their folder; allowed: data.*.folder"));
}

TEST(ConfigErrors, NameAugmentationsThatCannotBe) {
  const auto of_data = [](const std::vector<std::string>& keys) {
    std::vector<std::string> overrides;
    for (const std::string& key : keys) overrides.push_back("stages.pretrain.data." + key);
    return refusal(kValid, overrides);
  };
  EXPECT_THAT(of_data({"augment.scale=[0.5]"}), HasSubstr("two numbers above 0, the smaller one first"));
  EXPECT_THAT(of_data({"augment.ratio=[2, 1]"}), HasSubstr("data.augment.ratio: found"));
  EXPECT_THAT(of_data({"augment.crop=simple", "augment.crop_padding_px=4"}),
              HasSubstr("data.augment.crop_padding_px: found a second crop beside data.augment.crop"));
  EXPECT_THAT(
      of_data({"repeats=5"}),
      HasSubstr("data.repeats: found 5 with 4 microbatches a step (batch.global 128 / batch.micro 32)"));
}

TEST(ConfigErrors, NameWhatIsMissing) {
  EXPECT_EQ(refusal(with("name: small\n", "")),
            "p.yaml:1:1: name: found nothing, and it is required; allowed: letters, digits, '_', '.' and "
            "'-', at most 100 of "
            "them, the first a letter, digit or '_'.");
  EXPECT_THAT(refusal(with("      classes: 10\n", "")),
              HasSubstr("p.yaml:15:7: stages[0].model.classes: found nothing, and it is required"));
  EXPECT_THAT(refusal(with("      name: resnet18\n", "")), HasSubstr("stages[0].model.name: found nothing"));
  EXPECT_THAT(
      refusal(with("    train: {idx: {images: train-images.gz, labels: train-labels.gz}}\n", "")),
      HasSubstr("data.train: found no source of images; allowed: folder: FOLDER, shards: FILE.tar or idx: "
                "{images: FILE, labels: FILE}."));
  EXPECT_THAT(refusal(with("images: train-images.gz, ", "")),
              HasSubstr("data.train.idx.images: found nothing"));
  EXPECT_THAT(refusal(with("    init: {stage: finetune}\n", "")),
              HasSubstr("stages[2].init: found neither stage nor weights; allowed: init: {stage: NAME}"));
  EXPECT_THAT(refusal("name: x\n"), HasSubstr("stages: found nothing, and it is required"));
  EXPECT_THAT(refusal("name: x\nstages: []\n"), HasSubstr("p.yaml:2:9: stages: found no stage"));
  EXPECT_THAT(refusal(""), HasSubstr("p.yaml:1:1: name: found nothing"));
}

TEST(ConfigErrors, OfOneMistakeAreOneMessage) {
  EXPECT_THAT(refusal(with("global: 128", "global: 48"), {"cluster.ranks=3"}), Not(HasSubstr("\n")));
  EXPECT_THAT(refusal(with("global: 128", "global: x")), Not(HasSubstr("\n")));
  EXPECT_THAT(refusal(with("      classes: 10\n", "")), Not(HasSubstr("\n")));
  EXPECT_THAT(refusal(with("model:\n      name: resnet18", "model:\n      name: [resnet18]")),
              Not(HasSubstr("\n")));
  EXPECT_THAT(refusal(with("train: {idx: {images: train-images.gz, labels: train-labels.gz}}", "train: 5")),
              Not(HasSubstr("\n")));
}

TEST(ConfigErrors, OfInitSayWhatItsWeightsMayBe) {
  EXPECT_THAT(refusal(with("init: {stage: finetune}", "init: {weights: ema}")),
              HasSubstr("stages[2].init.weights: found 'ema'; allowed: a safetensors file, or the key "
                        "init.stage beside it."));
  EXPECT_THAT(refusal(with("weights: model", "weights: best")),
              HasSubstr("stages[3].init.weights: found 'best'; allowed: ema or model."));
  EXPECT_THAT(refusal(with("{stage: finetune, weights: model}", "{stage: finetune, head: replace}")),
              HasSubstr("stages[3].init.head: found 'replace' in a stage that does not train"));
}

TEST(ConfigErrors, OfNamesThatCannotBeFolders) {
  for (const char* name : {"a/b", "..", ".coordinator", "-rf", "a b", "\"\"", "é"}) {
    EXPECT_THAT(refusal(with("name: small", std::string("name: ") + name)),
                HasSubstr("p.yaml:1:7: name: found"))
        << name;
    EXPECT_THAT(refusal(with("- name: pretrain", std::string("- name: ") + name)),
                HasSubstr("stages[0].name: found"))
        << name;
  }
  EXPECT_THAT(refusal(with("name: even, keep: even", "name: a.b, keep: even")),
              HasSubstr("submodels[0].name: found 'a.b'"));
  EXPECT_THAT(refusal(with("name: some", "name: even")),
              HasSubstr("submodels[1].name: found 'even' a second time"));
  EXPECT_THAT(refusal(with("ranks: 2", "hosts: [-x]")), HasSubstr("cluster.hosts[0]: found '-x'"));
}

TEST(ConfigErrors, OfSubmodelsNameTheForms) {
  for (const char* keep :
       {"evn", "first:0", "\"first:\"", "last:x", "\"2,1\"", "\"1,1\"", "\"1,\"", "\",\"", "\"\"", "-1"}) {
    EXPECT_THAT(refusal(with("keep: even", std::string("keep: ") + keep)),
                HasSubstr("submodels[0].keep: found"))
        << keep;
  }
  for (const char* keep : {"all", "odd", "first:3", "last:1", "\"0,2\"", "4"}) {
    EXPECT_EQ(parse(with("keep: even", std::string("keep: ") + keep)).stages[2].submodels[0].keep,
              std::string(keep) == "\"0,2\"" ? "0,2" : keep);
  }
  EXPECT_EQ(parse(kValid).stages[2].submodels[1].keep, "0,2,5");
}

TEST(ConfigErrors, OfFilesNameTheFile) {
  const cosub::testing::TemporaryFolder folder;
  const auto message = [](const std::filesystem::path& file) -> std::string {
    try {
      load_pipeline(file);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  };
  const std::string missing = (folder / "none.yaml").string();
  EXPECT_EQ(message(missing), missing + ": cannot be read: No such file or directory; allowed: a YAML file.");
  EXPECT_THAT(message(folder.path()), HasSubstr("it is a folder"));
}

}  // namespace
}  // namespace cosub::config
