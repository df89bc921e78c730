// spec.json: what the planner writes is what the worker reads; a broken one is refused by file and key.
#include "workspace/spec.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/support/scratch.hpp"

namespace filo {
namespace {

using testing::HasSubstr;

const std::filesystem::path where = "stages/KEY/spec.json";

Json train_spec(const ModelSettings& model = {}) {
  Json spec = {{spec_member::kind, "train"},
               {spec_member::format, spec_format},
               {spec_member::model, model_of_training(model, "/weights")},
               {spec_member::train, to_json(TrainSettings{})},
               {spec_member::descriptions, to_json(generic_descriptions({"bolt"}))},
               {spec_member::clip, to_json(ClipReference{"/weights", "c"})},
               {spec_member::inputs, {{"features", "aaaaaaaaaaaaaaaa"}, {"features.2", "bbbbbbbbbbbbbbbb"}}}};
  spec.emplace(spec_member::dataset, to_json(DatasetReference{"parts", "d"}));
  return spec;
}

TEST(Spec, OfATrainingIsReadBack) {
  TrainSpec spec = train_spec_from_json(train_spec(), where);
  EXPECT_EQ(spec.clip.path, "/weights");
  EXPECT_EQ(spec.model.clip, "/weights");
  ASSERT_EQ(spec.datasets.size(), 1u);
  EXPECT_EQ(spec.datasets[0].digest, "d");
  EXPECT_EQ(spec.train.main_epochs, TrainSettings{}.main_epochs);

  Json several = train_spec();
  several.erase("dataset");
  several.emplace("datasets", datasets_member("dataset", {{"parts", "d"}, {"boards", "e"}}).second);
  spec = train_spec_from_json(several, where);
  ASSERT_EQ(spec.datasets.size(), 2u);
  EXPECT_EQ(spec.datasets[1].name, "boards");
  EXPECT_EQ(datasets_member("dataset", spec.datasets).first, "datasets");
}

TEST(Spec, OfFeaturesAndBoxesIsReadBack) {
  Json json = {{"dataset", to_json(DatasetReference{"parts", "d"})}, {"clip", to_json(ClipReference{"/weights", "c"})}};
  json.update(model_of_features({}));
  json["clip_activation"] = "gelu";
  FeaturesSpec features = features_spec_from_json(json, where);
  EXPECT_EQ(features.model.image_size, 518);
  EXPECT_EQ(features.model.layers, (std::vector<int>{6, 12, 18, 24}));
  EXPECT_EQ(features.model.clip_activation, ClipActivation::gelu);
  // Left out, of a system that would choose another: what it was before there was a choice.
  json.erase("clip_activation");
  json["profile"] = "filo-release";
  EXPECT_EQ(features_spec_from_json(json, where).model.clip_activation, ClipActivation::weights);

  // A precision is there where it is another than the one before there was a choice.
  EXPECT_FALSE(json.contains("precision"));
  EXPECT_EQ(features_spec_from_json(json, where).model.precision, Precision::fp32);
  ModelSettings rounded;
  rounded.precision = Precision::bf16;
  json.update(model_of_features(rounded));
  EXPECT_EQ(features_spec_from_json(json, where).model.precision, Precision::bf16);

  json["boxes"] = to_json(BoxesReference{"/boxes.json", "b"});
  EXPECT_EQ(boxes_spec_from_json(json, where).boxes.path, "/boxes.json");
  json["boxes"]["source"] = "detector";
  EXPECT_THAT(error_of([&] { boxes_spec_from_json(json, where); }),
              HasSubstr("stages/KEY/spec.json: boxes.source: found \"detector\", expected \"file\""));
}

// Guards: whoever reads the message knows which file and which key to look at.
TEST(Spec, ErrorsNameTheFileAndTheKey) {
  for (const char* key : {"model", "train", "descriptions", "clip", "dataset"}) {
    Json spec = train_spec();
    spec.erase(key);
    EXPECT_THAT(error_of([&] { train_spec_from_json(spec, where); }),
                HasSubstr("stages/KEY/spec.json: " + std::string(key) + ": missing"));
  }
  Json spec = train_spec();
  spec["dataset"]["digest"] = 7;
  EXPECT_THAT(error_of([&] { train_spec_from_json(spec, where); }), HasSubstr("digest: found 7, expected a string"));
  spec = train_spec();
  spec["train"]["seed"] = "x";
  EXPECT_THAT(error_of([&] { train_spec_from_json(spec, where); }), HasSubstr("stages/KEY/spec.json"));
  EXPECT_THAT(error_of([&] {
                export_spec_from_json({{"formats", {"onnx"}}}, where);
              }),
              HasSubstr("formats: found [\"onnx\"], expected [\"bundle\"]"));
}

TEST(Spec, InputsAreNumberedFromTheSecond) {
  EXPECT_EQ(input_name("features", 0), "features");
  EXPECT_EQ(input_name("features", 1), "features.2");
  EXPECT_EQ(inputs_of(train_spec(), "features", where),
            (std::vector<std::string>{"aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"}));
  EXPECT_THAT(error_of([] { input_of(train_spec(), "boxes", where); }), HasSubstr("inputs.boxes: missing"));
  EXPECT_THAT(error_of([] { input_of(Json::object(), "boxes", where); }), HasSubstr("inputs.boxes: missing"));
}

// Guards sharing: what acts at evaluation only is no part of a training, so that its key does not change with it.
TEST(Spec, OfATrainingLeavesOutWhatActsAtEvaluationOnly) {
  ModelSettings model;
  model.boxes = {.source = BoxSource::file, .file = "boxes.json", .suppression = 0.5};
  model.prompts.positions = PositionSource::boxes;
  EXPECT_TRUE(training_uses_boxes(model));
  EXPECT_EQ(model_of_training(model, "/w")["boxes"], Json({{"source", "file"}}));
  EXPECT_EQ(model_of_evaluation(model, "/w")["boxes"], Json({{"source", "file"}, {"suppression", 0.5}}));
  for (auto change : {+[](ModelSettings& other) { other.profile = Profile::filo_release; },
                      +[](ModelSettings& other) { other.prompts.positions = PositionSource::all; }}) {
    ModelSettings other = model;
    change(other);
    EXPECT_FALSE(training_uses_boxes(other));
    EXPECT_EQ(model_of_training(other, "/w")["boxes"], Json({{"source", "none"}}));
    EXPECT_TRUE(evaluation_uses_boxes(other));
  }
}

}  // namespace
}  // namespace filo
