#include "settings/evaluate.hpp"
#include "settings/model.hpp"
#include "settings/resources.hpp"
#include "settings/train.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../support/scratch_folder.hpp"
#include "base/error.hpp"
#include "settings/yaml.hpp"

namespace filo {
namespace {

using ::testing::HasSubstr;

// Guards: what a complete file says, key for key, is what the defaults say.
TEST(Settings, ACompleteModelIsReadAndEqualsTheDefaults) {
  const ScratchFolder scratch;
  const std::string file = scratch.write("model.yaml", R"(
model:
  profile: paper
  clip: weights/clip-tiny
  image_size: 518
  layers: [6, 12, 18, 24]
  vv_from: 7
  prompts:
    method: cocoop
    vectors: 12
    class_names: true
    fixed_template: true
    learnable_template: true
    generic_states: true
    descriptions: configs/descriptions/builtin.yaml
    positions: boxes
    filter: true
  mdci: {kernels: [[1,1],[3,3],[5,5],[7,7],[1,5],[5,1]], deformable: true, modulated: false}
  boxes: {source: none, suppression: 0.7}
)");
  ModelSettings expected;
  expected.clip = "weights/clip-tiny";
  EXPECT_EQ(to_json(load_model_settings(file)), to_json(expected));
}

TEST(Settings, JsonGoesThereAndBack) {
  ModelSettings model;
  model.profile = Profile::filo_release;
  model.prompts.filter = model.prompts.fixed_template = model.mdci.deformable = false;
  model.boxes.source = BoxSource::grounding_dino;
  EXPECT_EQ(to_json(model_settings_from_json(to_json(model), "x")), to_json(model));
  TrainSettings train;
  train.seed = 18446744073709551615u;
  train.learning_rate_mdci = 3e-5;
  EXPECT_EQ(to_json(train_settings_from_json(to_json(train), "x")), to_json(train));
  EvaluateSettings evaluate;
  EXPECT_EQ(to_json(evaluate_settings_from_json(to_json(evaluate), "x")), to_json(evaluate));
  evaluate.shots = 4;
  evaluate.seed = 18446744073709551615u;
  evaluate.filter = false;
  evaluate.positions = PositionSource::all;
  evaluate.boxes = BoxSource::file;
  EXPECT_EQ(to_json(evaluate_settings_from_json(to_json(evaluate), "x")), to_json(evaluate));
  ResourceSettings resources;
  resources.memory = "512M";
  EXPECT_EQ(to_json(resource_settings_from_json(to_json(resources), "x")), to_json(resources));
}

// Guards: aliases that double at each level do not eat the memory.
TEST(Settings, AliasesThatGrowWithoutEndAreRefused) {
  std::string yaml = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    yaml += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int j = 0; j < 9; ++j) yaml += ", " + before;
    yaml += "]\n";
  }
  EXPECT_THAT(error_of([&] { parse_yaml(yaml, "bomb.yaml"); }), HasSubstr("expected at most"));
}

}  // namespace
}  // namespace filo
