// A workspace that the first version wrote (testdata/workspace-format-1: the demo, without its large files) still
// opens, and nothing of it would be run again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/support/scratch.hpp"
#include "workspace/metric_history.hpp"
#include "workspace/spec.hpp"
#include "workspace/stage_record.hpp"
#include "workspace/workspace.hpp"

namespace filo {
namespace {

class FormerWorkspace : public ::testing::Test {
 protected:
  FormerWorkspace() {
    std::filesystem::copy(std::filesystem::path(FILO_SOURCE_DIR) / "tests/unit/workspace/testdata/workspace-format-1",
                          scratch.folder / "workspace", std::filesystem::copy_options::recursive);
  }

  Scratch scratch;
};

// Guards: a change of what counts for a key would have everybody's stages run again.
TEST_F(FormerWorkspace, KeysAreTheSame) {
  const Workspace workspace = scratch.workspace();
  const auto keys = workspace.stage_keys();
  ASSERT_EQ(keys.size(), 6u);
  for (const std::string& key : keys) EXPECT_EQ(stage_key(read_json(workspace.spec_file(key))), key);
}

TEST_F(FormerWorkspace, EveryStageIsDone) {
  const Workspace workspace = scratch.workspace();
  for (const std::string& key : workspace.stage_keys()) {
    const StageRecord record = read_stage_record(workspace, key, workspace.kind(key));
    EXPECT_TRUE(record.done) << key;
    EXPECT_TRUE(record.ended) << key;
    EXPECT_GT(record.seconds, 0) << key;
    const auto end = workspace.outcome(key, 1);
    ASSERT_TRUE(end) << key;
    EXPECT_EQ(end->outcome, "done");
    EXPECT_TRUE(workspace.claim(key, 1));
  }
  const auto result = workspace.result("27c88399a3045452", StageKind::evaluate);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->world_size, 2);
  EXPECT_EQ(result->device, "cpu") << "which the first version did not write";
  EXPECT_NEAR(result->metrics.at("aupro").get<double>(), 0.6221597708502562, 1e-15);
}

// Guards the other direction: what is written today are the same specs, member for member.
TEST_F(FormerWorkspace, SpecsAreReadAndWrittenAlike) {
  const Workspace workspace = scratch.workspace();
  for (const std::string& key : workspace.stage_keys()) {
    const auto where = workspace.spec_file(key);
    const Json json = read_json(where);
    switch (workspace.kind(key)) {
      case StageKind::features:
        EXPECT_EQ(to_json(features_spec_from_json(json, where).clip), json.at("clip"));
        break;
      case StageKind::train: {
        const TrainSpec spec = train_spec_from_json(json, where);
        EXPECT_EQ(model_of_training(spec.model, spec.clip.path), json.at("model"));
        // One setting has another name now, and is in no key.
        EXPECT_EQ(spec.train.snapshots.every_steps, json.at("train").at("snapshot_every_steps"));
        EXPECT_EQ(key_view({{"train", to_json(spec.train)}}).at("train"), key_view(json).at("train"));
        EXPECT_EQ(to_json(spec.descriptions), json.at("descriptions"));
        const auto [name, datasets] = datasets_member("dataset", spec.datasets);
        EXPECT_EQ(datasets, json.at(name));
        EXPECT_EQ(inputs_of(json, "features", where).size(), 1u);
        break;
      }
      case StageKind::evaluate: {
        const EvaluateSpec spec = evaluate_spec_from_json(json, where);
        EXPECT_EQ(model_of_evaluation(spec.model, spec.clip.path), json.at("model"));
        EXPECT_EQ(to_json(spec.evaluate), json.at("evaluate"));
        EXPECT_EQ(spec.seed, json.at("seed"));
        break;
      }
      default:
        ADD_FAILURE() << "no such stage was recorded";
    }
  }
}

TEST_F(FormerWorkspace, EventsAreRead) {
  const Workspace workspace = scratch.workspace();
  const MetricPoints points = metric_points(workspace, "47e0dd6e6387294e", "epoch", "main", "loss");
  ASSERT_EQ(points.size(), 5u);
  EXPECT_GT(points.at(1).value.value(), points.at(5).value.value());
}

}  // namespace
}  // namespace filo
