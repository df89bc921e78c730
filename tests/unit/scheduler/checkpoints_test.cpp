#include "scheduler/report/checkpoints.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../support/scratch.hpp"
#include "base/error.hpp"
#include "scheduler/report/checkpoint_rows.hpp"
#include "workspace/artifacts.hpp"

namespace filo {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAre;

class Checkpoints : public testing::Test {
 protected:
  Checkpoints() { scratch_.add_all(); }

  // All stages of the plan are done, each training with other parameters, and collected.
  Plan finish(const std::string& more) {
    const Experiment experiment = scratch_.experiment(more);
    Plan plan = make_plan(experiment, workspace_);
    save_plan(plan, workspace_);
    double auroc = 0.5;
    for (const PlannedStage& stage : plan.stages) {
      workspace_.make_attempt(stage.key);
      if (stage.kind == StageKind::train) {
        const std::string folder = "workspace/stages/" + stage.key + "/checkpoint/";
        scratch_.write(folder + "params.safetensors", stage.key);
        const Json settings = {{"model", to_json(experiment.base.model)}, {"clip", {{"digest", ""}}}};
        scratch_.write(folder + "settings.json", settings.dump());
        write_result(workspace_, stage.key, stage.kind, 1, Json::object(), {{"checkpoint", "checkpoint"}});
        collect_checkpoint(workspace_, stage.key, plan.name);
      } else {
        write_result(workspace_, stage.key, stage.kind, 1, {{"image_auroc", auroc += 0.01}});
        if (stage.kind == StageKind::evaluate) collect_evaluation(workspace_, stage.key, plan.name);
      }
    }
    return plan;
  }

  Scratch scratch_;
  Workspace workspace_ = scratch_.workspace();
};

std::set<std::string> keys_of(const Plan& plan, StageKind kind) {
  std::set<std::string> keys;
  for (const PlannedStage& stage : plan.stages)
    if (stage.kind == kind) keys.insert(stage.key);
  return keys;
}

// Guards: whatever varies in a grid, the file that `reproduce` prints plans the stages that ran, by their keys.
TEST_F(Checkpoints, WhatReproducesPlansTheSameStages) {
  scratch_.write("boxes.json", "{}");
  const std::string boxes = (scratch_.folder / "boxes.json").string();
  finish(
      "train: {batch_size: 3, schedule: cosine, weight_decay: 0.1}\n"
      "evaluate: {aupro: {fpr: [0.3, 0.1]}, gaussian_sigma: 2}\n"
      "include:\n"
      "  - {name: as trained}\n"
      "  - {name: filter, evaluate.filter: false, model.prompts.positions: all}\n"
      "  - {name: shots, evaluate.shots: 2, evaluate.seed: 9}\n"
      "  - {name: suppressed, model.boxes.source: file, model.boxes.file: " +
      boxes +
      ", model.boxes.suppression: 0.5, model.prompts.positions: none}\n"
      "  - {name: trained on boxes, model.boxes.source: file, model.boxes.file: " +
      boxes +
      "}\n"
      "  - {name: then without, model.boxes.source: file, model.boxes.file: " +
      boxes +
      ", evaluate.boxes: none}\n"
      "  - {name: published, model.profile: filo-release, model.prompts.filter: false}\n"
      "seeds: [0, 7]\n");
  std::size_t compared = 0;
  for (const CheckpointRow& row : checkpoint_rows(workspace_)) {
    ASSERT_TRUE(row.training && row.evaluation);
    const std::string train = row.training->at("stage"), evaluate = row.evaluation->at("stage");
    const std::string file =
        scratch_.write("reproduce.yaml", experiment_that_reproduces(workspace_, row.digest, evaluate.substr(0, 12)));
    const Plan plan = make_plan(load_experiment(file), workspace_);
    EXPECT_THAT(keys_of(plan, StageKind::train), UnorderedElementsAre(train)) << read_file(file);
    EXPECT_THAT(keys_of(plan, StageKind::evaluate), UnorderedElementsAre(evaluate)) << read_file(file);
    ++compared;
  }
  EXPECT_GE(compared, 20u);
}

// Guards: what the manifest does not tell is said, and not made up.
TEST_F(Checkpoints, WhatIsUnknownCannotBeReproduced) {
  finish("");
  const std::string digest = artifact_digests(workspace_).at(0);
  EXPECT_THROW(experiment_that_reproduces(workspace_, digest, "ffff"), UsageError);
  std::filesystem::remove_all(workspace_.manifest_folder(digest));
  EXPECT_THROW(experiment_that_reproduces(workspace_, digest, ""), Error);
  const auto rows = where(checkpoint_rows(workspace_), {parse_condition("digest=" + digest)});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_FALSE(rows[0].training);
  EXPECT_TRUE(meets(rows[0], parse_condition("experiment=test")));  // its plan says so
  EXPECT_FALSE(meets(rows[0], parse_condition("seed=0")));
  EXPECT_FALSE(meets(rows[0], parse_condition("seed!=0")));
}

// Guards: conditions compare numbers as numbers, words as words, and one of several.
TEST_F(Checkpoints, ConditionsChoose) {
  finish("seeds: [0, 10]\n");
  const auto count = [&](const std::string& condition) {
    return where(checkpoint_rows(workspace_), {parse_condition(condition)}).size();
  };
  EXPECT_EQ(count("seed=10"), 2u);
  EXPECT_EQ(count("seed=1e1"), 2u);
  EXPECT_EQ(count("seed<9"), 2u);
  EXPECT_EQ(count("image_auroc>0"), 4u);
  EXPECT_EQ(count("train_dataset=parts"), 2u);
  EXPECT_EQ(count("train_dataset!=parts"), 2u);
  EXPECT_EQ(count("model.prompts.filter=true"), 4u);
  EXPECT_EQ(count("test_dataset>a"), 0u);
  EXPECT_THROW(count("seeed=1"), UsageError);
  for (const char* bad : {"seed", "=1", "seed==1", "seed=<1", ""})
    EXPECT_THROW(parse_condition(bad), UsageError) << bad;
}

// Guards: what differs between two trainings is listed, and metrics of the same images stand side by side.
TEST_F(Checkpoints, ADifferenceNamesWhatDiffers) {
  finish("seeds: [0, 10]\n");
  const auto rows = where(checkpoint_rows(workspace_), {parse_condition("train_dataset=parts")});
  ASSERT_EQ(rows.size(), 2u);
  const Json difference = checkpoint_difference(workspace_, rows[0].digest, rows[1].digest);
  std::set<std::string> keys;
  for (const auto& item : difference.at("settings").items()) keys.insert(item.key());
  EXPECT_THAT(keys, UnorderedElementsAre("seed", "train.seed"));
  EXPECT_EQ(difference.at("metrics").size(), 1u);
  EXPECT_THAT(difference_text(difference), HasSubstr("image AUROC (%) on boards: "));
}

// Guards: an experiment names what its trainings came to, and its removal frees them.
TEST_F(Checkpoints, ExperimentsNameWhatTheirTrainingsCameTo) {
  const Plan plan = finish("");
  const auto named = checkpoints_of_experiments(workspace_);
  ASSERT_EQ(named.size(), 2u);
  EXPECT_EQ(named.begin()->second, std::set<std::string>{"test"});
  std::filesystem::remove_all(workspace_.experiment_folder(plan.name));
  EXPECT_TRUE(checkpoints_of_experiments(workspace_).empty());
  EXPECT_EQ(where(checkpoint_rows(workspace_), {parse_condition("experiment=test")}).size(), 2u);
}

// Guards: a checkpoint that an experiment takes in place of a training is named by it, and what comes of it is made
// again from it.
TEST_F(Checkpoints, OneThatATrainingTakesIsNamedToo) {
  finish("");
  const std::string taken = artifact_digests(workspace_).at(0);
  const Plan plan = finish("train: {checkpoint: " + workspace_.artifact_folder(taken).string() + "}\n");
  EXPECT_TRUE(checkpoints_of_experiments(workspace_).contains(taken));
  const std::string key = *keys_of(plan, StageKind::train).begin();
  const std::string made = collected_digest(workspace_, key).value();
  const std::string file = scratch_.write("reproduce.yaml", experiment_that_reproduces(workspace_, made, ""));
  EXPECT_THAT(keys_of(make_plan(load_experiment(file), workspace_), StageKind::train), UnorderedElementsAre(key))
      << read_file(file);
}

}  // namespace
}  // namespace filo
