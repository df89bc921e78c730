#include "settings/evaluate.hpp"
#include "settings/model.hpp"
#include "settings/resources.hpp"
#include "settings/train.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.hpp"
#include "settings/yaml.hpp"
#include "temporary_file.hpp"

namespace filo {
namespace {

using ::testing::HasSubstr;

// Guards: what a complete file says, key for key, is what the defaults say.
TEST(Settings, ACompleteModelIsReadAndEqualsTheDefaults) {
  const TemporaryFile file("model.yaml", R"(
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
  EXPECT_EQ(to_json(load_model_settings(file.path())), to_json(expected));
}

// Guards: the probe's --spec may leave out `model:`.
TEST(Settings, ModelKeysMayStandAtTheTop) {
  const TemporaryFile file("model.yaml", "image_size: 56\nmdci: {kernels: [[3, 1]]}\n");
  const ModelSettings settings = load_model_settings(file.path());
  EXPECT_EQ(settings.image_size, 56);
  EXPECT_EQ(settings.mdci.kernels, (std::vector<std::array<int, 2>>{{3, 1}}));
}

// Guards: filo-release has no filtering, no fixed template, no deformable kernels unless somebody insists, and then
// says so.
TEST(Settings, FiloReleaseChangesTheDefaults) {
  const ModelSettings settings = model_settings_from_json({{"profile", "filo-release"}}, "spec.json");
  EXPECT_FALSE(settings.prompts.filter);
  EXPECT_FALSE(settings.prompts.fixed_template);
  EXPECT_FALSE(settings.mdci.deformable);
  EXPECT_EQ(settings.prompts.method, PromptMethod::cocoop);
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
  evaluate.shots = 4;
  EXPECT_EQ(to_json(evaluate_settings_from_json(to_json(evaluate), "x")), to_json(evaluate));
  ResourceSettings resources;
  resources.memory = "512M";
  EXPECT_EQ(to_json(resource_settings_from_json(to_json(resources), "x")), to_json(resources));
}

struct Case {
  const char* yaml;
  const char* message;  // after "settings: FILE"
};

class WrongModel : public ::testing::TestWithParam<Case> {};

// Guards: each mistake names line, key, what was found and what was expected.
TEST_P(WrongModel, IsToldWithItsLine) {
  const TemporaryFile file("model.yaml", GetParam().yaml);
  const std::string message = error_of([&] { load_model_settings(file.path()); });
  EXPECT_THAT(message, HasSubstr("settings: " + file.path() + GetParam().message));
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

TEST(Settings, PatchMatchingAloneNeedsShots) {
  const Json evaluate = {{"shots", 0}, {"vision_language", false}};
  EXPECT_THAT(error_of([&] { evaluate_settings_from_json(evaluate, "x"); }),
              HasSubstr("x: evaluate.vision_language: found false with shots: 0, expected shots"));
}

INSTANTIATE_TEST_SUITE_P(
    Cases, WrongModel,
    ::testing::Values(
        Case{"model:\n  imagesize: 5\n", ":2: model.imagesize: found an unknown key, expected"},
        Case{"model:\n  imagesize: 5\n",
             ":2: model.imagesize: found an unknown key, expected profile, clip, image_size, "
             "layers, vv_from, prompts, mdci or boxes; did you mean image_size?"},
        Case{"image_size: big\n", ":1: image_size: found the text \"big\", expected a whole number from 1 to 16384"},
        Case{"image_size: 0\n", ":1: image_size: found 0, expected a whole number from 1"},
        Case{"image_size: 2.5\n", ":1: image_size: found 2.5, expected a whole number"},
        Case{"image_size: \"5\"\n", ":1: image_size: found the text \"5\""},
        Case{"vv_from: 0\n", ":1: vv_from: found 0, expected a whole number from 1"},
        Case{"layers: [6, 6]\n", ":1: layers: found the list [6,6], expected ascending layers"},
        Case{"layers: [12, 6]\n", ":1: layers: found the list [12,6], expected ascending layers"},
        Case{"layers: []\n", ":1: layers: found the list [], expected a list with at least one item"},
        Case{"layers: 6\n", ":1: layers: found 6, expected a list"},
        Case{"\nprompts:\n  filter: yes\n", ":3: prompts.filter: found the text \"yes\", expected true or false"},
        Case{"prompts: {method: cocop}\n",
             ":1: prompts.method: found the text \"cocop\", expected coop, cocoop or none; did you mean"},
        Case{"prompts: {fixed_template: false, learnable_template: false}\n",
             ":1: prompts.learnable_template: found both"},
        Case{"mdci: {kernels: [[2, 3]]}\n", ":1: mdci.kernels[0][0]: found 2, expected an odd number"},
        Case{"mdci: {kernels: [[-1, 3]]}\n", ":1: mdci.kernels[0][0]: found -1, expected a whole number from 1"},
        Case{"mdci: {kernels: [[3]]}\n",
             ":1: mdci.kernels[0]: found the list [3], expected a kernel as [height, width]"},
        Case{"mdci: {deformable: false, modulated: true}\n", ":1: mdci.modulated: found true, expected false"},
        Case{"boxes: {suppression: 1.5}\n", ":1: boxes.suppression: found 1.5, expected a number from 0 to 1"},
        Case{"boxes: {suppression: .nan}\n", ":1: boxes.suppression: found null, expected a number from 0 to 1"},
        Case{"profile: filo-release\nprompts:\n  filter: true\n",
             ":3: prompts.filter: found true, expected false (filo-release has none of it; profile paper has)"},
        Case{"profile: filo-release\nprompts: {fixed_template: true}\n", ":2: prompts.fixed_template: found true"},
        Case{"profile: filo-release\nprompts: {method: coop}\n",
             ":2: prompts.method: found the text \"coop\", expected cocoop"},
        Case{"profile: filo-release\nmdci: {deformable: true}\n", ":2: mdci.deformable: found true, expected false"},
        Case{"image_size: 5\nimage_size: 6\n", ":2: image_size: found this key twice (first in line 1)"},
        Case{"image_size: [1\n", ":2: found what is not YAML"},
        Case{"- 1\n", ":1: found the list [1], expected a map with the keys profile"},
        Case{"imagesize: 5\nvv_form: 1\n", ":1: imagesize: found an unknown key"},
        Case{"&a [*a]\n", ":1: found values nested or repeated by aliases without end"}));

// Guards: all problems are told at once, in one line.
TEST(Settings, OtherProblemsAreListed) {
  const TemporaryFile file("model.yaml", "image_size: 0\nvv_from: 0\n");
  EXPECT_THAT(error_of([&] { load_model_settings(file.path()); }),
              HasSubstr("(1 more: " + file.path() + ":2 vv_from)"));
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

TEST(Settings, AnchorsAreAllowed) {
  const TemporaryFile file("model.yaml", "image_size: &n 42\nvv_from: *n\n");
  EXPECT_EQ(load_model_settings(file.path()).vv_from, 42);
}

// Guards: a spec.json that somebody edited is checked like YAML.
TEST(Settings, JsonIsCheckedByTheSameSchema) {
  EXPECT_EQ(error_of([] {
              train_settings_from_json({{"batch_size", 0}}, "spec.json");
            }),
            "settings: spec.json: train.batch_size: found 0, expected a whole number from 1 to 65536");
  EXPECT_THAT(
      error_of([] {
        train_settings_from_json({{"main", {{"epoch", 3}}}}, "spec.json");
      }),
      HasSubstr("train.main.epoch: found an unknown key, expected epochs or learning_rate; did you mean epochs?"));
  EXPECT_THAT(error_of([] {
                train_settings_from_json({{"adapter", {{"learning_rate", 0}}}}, "s");
              }),
              HasSubstr("train.adapter.learning_rate: found 0, expected a number above 0"));
  EXPECT_THAT(error_of([] { train_settings_from_json({{"seed", -1}}, "s"); }), HasSubstr("train.seed: found -1"));
  EXPECT_THAT(error_of([] { resource_settings_from_json({{"memory", "4 GB"}}, "s"); }), HasSubstr("as in 4G"));
  EXPECT_THAT(error_of([] { resource_settings_from_json({{"time", "1h"}}, "s"); }), HasSubstr("hours:minutes:seconds"));
  EXPECT_THAT(error_of([] { evaluate_settings_from_json(Json::array(), "s"); }), HasSubstr("found the list []"));
}

}  // namespace
}  // namespace filo
