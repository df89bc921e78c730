// spec.json: all that a stage's result depends on. The planner writes it, the worker reads it; the names of its members
// are here and nowhere else. Its key is a digest over it (workspace/stage_key.hpp), so that a member that is added,
// renamed or written differently has everybody's finished stages run again.
//
//   all       kind, format (1: raised too where what a stage computes changes by more than rounding, as the encoder
//             of features might), inputs {NAME: key of the stage that is needed}
//   features  dataset, clip, profile, image_size, layers, vv_from, clip_activation, feature_type, precision, tiling,
//             mosaics: how many of each class, in place of the data set's images
//   boxes     dataset, boxes {source: "file", path, digest}
//   train     dataset or datasets, clip, model, train, descriptions    inputs: features, boxes, mosaics (their
//                                                                      features); of the second data set features.2,
//                                                                      boxes.2, mosaics.2, and so on
//             of a checkpoint that is there: clip, model, checkpoint {path, digest}
//   evaluate  dataset, train_dataset or train_datasets, clip, model, evaluate, descriptions, seed
//                                                                      inputs: features, train, boxes
//   export    clip, formats ["bundle"]                                 inputs: train
//
// clip_activation, here and in model, is left out where it is the weights' own, feature_type where it is f16, precision
// where it is fp32, tiling where it has size 0, mosaics where there are none: stages of versions that did not know them
// keep their keys.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/json.hpp"
#include "settings/descriptions.hpp"
#include "settings/evaluate.hpp"
#include "settings/model.hpp"
#include "settings/train.hpp"
#include "workspace/stage_key.hpp"

namespace filo {

// Names of members.
namespace spec_member {
inline constexpr const char* kind = "kind";
inline constexpr const char* format = "format";
inline constexpr const char* inputs = "inputs";
inline constexpr const char* dataset = "dataset";
inline constexpr const char* train_dataset = "train_dataset";
inline constexpr const char* clip = "clip";
inline constexpr const char* boxes = "boxes";
inline constexpr const char* model = "model";
inline constexpr const char* train = "train";
inline constexpr const char* checkpoint = "checkpoint";
inline constexpr const char* evaluate = "evaluate";
inline constexpr const char* descriptions = "descriptions";
inline constexpr const char* seed = "seed";
inline constexpr const char* formats = "formats";
inline constexpr const char* mosaics = "mosaics";
}  // namespace spec_member

// Names of inputs.
namespace spec_input {
inline constexpr const char* features = "features";
inline constexpr const char* boxes = "boxes";
inline constexpr const char* mosaics = "mosaics";
inline constexpr const char* train = "train";
}  // namespace spec_input

inline constexpr int spec_format = 1;

struct DatasetReference {
  std::string name;
  std::string digest;  // what is meant; the name only says where it is. "": what a given checkpoint was trained on
};
struct ClipReference {
  std::string path;
  std::string digest;
};
struct BoxesReference {
  std::string path;
  std::string digest;  // SHA-256 of the file
};
struct CheckpointReference {
  std::string path;
  std::string digest;  // SHA-256 of its params.safetensors
};
Json to_json(const DatasetReference& dataset);
Json to_json(const ClipReference& clip);
Json to_json(const BoxesReference& boxes);
Json to_json(const CheckpointReference& checkpoint);

struct FeaturesSpec {
  DatasetReference dataset;
  ClipReference clip;
  ModelSettings model;  // what model_of_features() has; the rest is as it is by default
  int mosaics = 0;      // 0: of the data set's images; else of so many mosaics of each class
};
struct BoxesSpec {
  DatasetReference dataset;
  BoxesReference boxes;
};
struct TrainSpec {
  ModelSettings model;
  TrainSettings train;
  Descriptions descriptions;
  std::vector<DatasetReference> datasets;
  ClipReference clip;
};
struct ImportSpec {  // a `train` that takes a checkpoint
  ModelSettings model;
  ClipReference clip;
  CheckpointReference checkpoint;
};
struct EvaluateSpec {
  ModelSettings model;
  EvaluateSettings evaluate;
  Descriptions descriptions;
  DatasetReference dataset;
  std::vector<DatasetReference> train_datasets;
  ClipReference clip;
  std::uint64_t seed = 0;
};
struct ExportSpec {
  ClipReference clip;
};

// All throw UsageError naming the file and the key.
FeaturesSpec features_spec_from_json(const Json& spec, const std::filesystem::path& where);
BoxesSpec boxes_spec_from_json(const Json& spec, const std::filesystem::path& where);
TrainSpec train_spec_from_json(const Json& spec, const std::filesystem::path& where);
ImportSpec import_spec_from_json(const Json& spec, const std::filesystem::path& where);
EvaluateSpec evaluate_spec_from_json(const Json& spec, const std::filesystem::path& where);
ExportSpec export_spec_from_json(const Json& spec, const std::filesystem::path& where);

// The key of a stage that this one needs: input NAME. Throws Error naming the file and the key when there is none.
std::string input_of(const Json& spec, const std::string& name, const std::filesystem::path& where);
// Of several: inputs NAME, NAME.2, NAME.3, ..., in this order; at least one.
std::vector<std::string> inputs_of(const Json& spec, const std::string& name, const std::filesystem::path& where);
// "features", "features.2", ...; `index` from 0.
std::string input_name(const std::string& name, std::size_t index);

// {"dataset", {...}} of one, {"datasets", [...]} of several.
std::pair<std::string, Json> datasets_member(const std::string& name, const std::vector<DatasetReference>& datasets);

// The members of `model:` that stand in a features stage's spec by themselves; clip_activation is set.
Json model_of_features(const ModelSettings& model);
// The member `model` of a training's and of an evaluation's spec, `clip` being the weights' absolute path and
// clip_activation set. model.boxes.file is in neither (the stage that reads it stands among the inputs); what acts at
// evaluation only is not in a training's, so that trials that differ in it share the training.
Json model_of_training(const ModelSettings& model, const std::string& clip);
Json model_of_evaluation(const ModelSettings& model, const std::string& clip);

// Whether training looks at boxes, by the positions in its prompts: FiLo trains on all nine, and so do prompts without
// positions from boxes.
bool training_uses_boxes(const ModelSettings& model);
bool evaluation_uses_boxes(const ModelSettings& model);

}  // namespace filo
