#include "scheduler/plan/plan.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <set>

#include "scheduler/control/reconcile.hpp"
#include "tests/unit/support/scratch.hpp"

namespace filo {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

std::set<std::string> keys(const Plan& plan, StageKind kind) {
  std::set<std::string> found;
  for (const auto& stage : plan.stages)
    if (stage.kind == kind) found.insert(stage.key);
  return found;
}

// Guards: each training is exported once, however many trials share it, and exports change no other stage.
TEST(Plan, ExportsEachTrainingOnce) {
  const Scratch scratch;
  scratch.add_all();
  const std::string axes = "axes: {evaluate.gaussian_sigma: [2, 4], model.prompts.filter: [true, false]}\n";
  const Plan without = make_plan(scratch.experiment(axes), scratch.workspace());
  const Plan plan = make_plan(scratch.experiment(axes + "export: [bundle]\n"), scratch.workspace());
  const auto trainings = keys(plan, StageKind::train);
  EXPECT_EQ(trainings.size(), 4u);
  std::set<std::string> exported;
  for (const auto& stage : plan.stages) {
    if (stage.kind != StageKind::exported) continue;
    ASSERT_EQ(stage.inputs.size(), 1u);
    exported.insert(stage.inputs[0]);
    EXPECT_EQ(stage.resources.ranks, 1);
    EXPECT_THAT(stage.label, AnyOf("export parts (filter=true)", "export boards (filter=true)",
                                   "export parts (filter=false)", "export boards (filter=false)"));
    EXPECT_EQ(stage.spec.at("kind"), "export");
  }
  EXPECT_EQ(exported, trainings);
  EXPECT_EQ(keys(plan, StageKind::evaluate), keys(without, StageKind::evaluate));
  EXPECT_EQ(keys(without, StageKind::exported).size(), 0u);
}

// Guards: keys follow contents, not paths, names or resources.
TEST(Plan, KeysDoNotDependOnPathsNamesOrResources) {
  const Scratch scratch;
  scratch.add_all();
  const Plan plan = make_plan(scratch.experiment(), scratch.workspace());
  scratch.add_clip("moved/clip");
  Experiment moved = scratch.experiment("resources: {ranks: 7}\n");
  moved.source.set_dotted("model.clip", source_value((scratch.folder / "moved/clip").string()));
  const Plan other = make_plan(moved, scratch.workspace());
  EXPECT_EQ(keys(other, StageKind::evaluate), keys(plan, StageKind::evaluate));
  EXPECT_EQ(other.stages[0].resources.ranks, 7);

  scratch.add_clip("clip", "other weights");
  EXPECT_NE(keys(make_plan(scratch.experiment(), scratch.workspace()), StageKind::features),
            keys(plan, StageKind::features));
}

// Guards: nothing of the test data set reaches a training's spec, and its digest does not matter to it.
TEST(Plan, TrainingDoesNotKnowTheTestDataSet) {
  const Scratch scratch;
  scratch.add_all();
  const auto train_on_parts = [&] {
    const Plan plan = make_plan(scratch.experiment(), scratch.workspace());
    return plan.stage(plan.trials[0].train);
  };
  const PlannedStage before = train_on_parts();
  EXPECT_EQ(before.spec.json().dump().find("board"), std::string::npos);
  EXPECT_EQ(before.spec.at("descriptions")["classes"].size(), 1u);
  scratch.add_dataset("boards", "cccccccccccccccc", "other");
  EXPECT_EQ(train_on_parts().key, before.key);
}

TEST(Plan, InputsComeBeforeWhatNeedsThem) {
  const Scratch scratch;
  scratch.add_all();
  const Plan plan = make_plan(scratch.experiment(), scratch.workspace());
  std::set<std::string> earlier;
  for (const auto& stage : plan.stages) {
    for (const auto& input : stage.inputs) EXPECT_TRUE(earlier.contains(input)) << stage.label;
    earlier.insert(stage.key);
  }
}

// Guards data sets from being removed while results tell of them.
TEST(Plan, TellsWhichDataSetsItNames) {
  const Scratch scratch;
  scratch.add_all();
  const Workspace workspace = scratch.workspace();
  save_plan(make_plan(scratch.experiment(), workspace), workspace);
  scratch.write("both.yaml", "name: both\ninclude: [experiment.yaml]\n");
  save_plan(make_plan(load_experiment(scratch.folder / "both.yaml"), workspace), workspace);
  EXPECT_EQ(experiments_with_dataset(workspace, "parts"), (std::vector<std::string>{"both", "test"}));
  EXPECT_EQ(experiments_with_dataset(workspace, "a"), std::vector<std::string>());
  scratch.write("workspace/experiments/test/plan.json", "{");
  EXPECT_THROW(experiments_with_dataset(workspace, "parts"), Error);
}

TEST(Plan, IsSavedAndLoaded) {
  const Scratch scratch;
  scratch.add_all();
  const Workspace workspace = scratch.workspace();
  const Plan plan =
      make_plan(scratch.experiment("axes: {train.seed: [1, 2]}\ntables: [{title: T, rows: train.seed}]\n"), workspace);
  save_plan(plan, workspace);
  const Plan loaded = load_plan(workspace, "test");
  ASSERT_EQ(loaded.trials.size(), plan.trials.size());
  EXPECT_EQ(loaded.trials[3].evaluate, plan.trials[3].evaluate);
  EXPECT_EQ(loaded.trials[3].axis_values, plan.trials[3].axis_values);
  EXPECT_EQ(loaded.stages.size(), plan.stages.size());
  EXPECT_EQ(loaded.tables[0].rows, "train.seed");
  EXPECT_EQ(stage_key(read_json(workspace.spec_file(plan.stages[0].key))), plan.stages[0].key);
  EXPECT_THAT(error_of([&] { load_plan(workspace, "tost"); }), HasSubstr("did you mean test?"));
}

// Guards: a large grid is planned while somebody waits (the design asks for 10,000 trials in 2 s on a quiet machine).
TEST(Plan, TenThousandTrialsAreQuick) {
  const Scratch scratch;
  scratch.add_all();
  std::string seeds = "0", sigmas = "0";
  for (int i = 1; i < 100; ++i) seeds += ", " + std::to_string(i);
  for (int i = 1; i < 50; ++i) sigmas += ", " + std::to_string(i);
  const Experiment experiment =
      scratch.experiment("axes: {evaluate.gaussian_sigma: [" + sigmas + "]}\nseeds: [" + seeds + "]\n");
  const auto start = std::chrono::steady_clock::now();
  const Plan plan = make_plan(experiment, scratch.workspace());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(plan.trials.size(), 10000u);
  EXPECT_EQ(plan.stages.size(), 2u + 200u + 10000u);
  EXPECT_LT(took.count(), 10.0);
  std::printf("planned in %.2f s\n", took.count());
  RecordProperty("seconds", std::to_string(took.count()));
}

// Guards: an experiment that the first version planned and ran is still known, and nothing of it is left to do.
TEST(Plan, OfTheFirstVersionIsReadAndDone) {
  const Scratch scratch;
  std::filesystem::copy(std::filesystem::path(FILO_SOURCE_DIR) / "tests/unit/workspace/testdata/workspace-format-1",
                        scratch.folder / "workspace", std::filesystem::copy_options::recursive);
  const Workspace workspace = scratch.workspace();
  const Plan plan = load_plan(workspace, "demo");
  EXPECT_EQ(plan.trials.size(), 2u);
  for (const auto& status : observe(workspace, plan)) EXPECT_EQ(status.state, StageState::done) << status.reason;
}

}  // namespace
}  // namespace filo
