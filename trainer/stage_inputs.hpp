// The typed form of a stage's spec.json (docs/architecture.md), checked against what is on disk.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "data/boxes.hpp"
#include "data/datasets/dataset.hpp"
#include "data/shards/shards.hpp"
#include "model/clip/clip.hpp"
#include "settings/descriptions.hpp"
#include "settings/evaluate.hpp"
#include "settings/model.hpp"
#include "settings/train.hpp"
#include "trainer/stage.hpp"

namespace filo {

struct DatasetReference {
  std::string name;
  std::string digest;  // what is meant; the name only says where it is
};
struct ClipReference {
  std::string path;
  std::string digest;
};

struct FeaturesSpec {
  DatasetReference dataset;
  ClipReference clip;
  Profile profile;
  int image_size;
  std::vector<int> layers;
  int vv_from;
};
struct BoxesSpec {
  DatasetReference dataset;
  std::string path;
  std::string digest;  // SHA-256 of the file
};
struct TrainSpec {
  ModelSettings model;
  TrainSettings train;
  Descriptions descriptions;
  ClipReference clip;
};
struct EvaluateSpec {
  ModelSettings model;
  EvaluateSettings evaluate;
  Descriptions descriptions;
  DatasetReference dataset;
  std::vector<DatasetReference> train_datasets;
  ClipReference clip;
  std::uint64_t seed;
};
struct ExportSpec {
  ClipReference clip;
};

// All throw UsageError naming the file and the key.
FeaturesSpec parse_features_spec(const Json& spec, const std::filesystem::path& where);
BoxesSpec parse_boxes_spec(const Json& spec, const std::filesystem::path& where);
TrainSpec parse_train_spec(const Json& spec, const std::filesystem::path& where);
EvaluateSpec parse_evaluate_spec(const Json& spec, const std::filesystem::path& where);
ExportSpec parse_export_spec(const Json& spec, const std::filesystem::path& where);

// WORKSPACE/datasets/NAME.json; throws Error when its digest is not the one the stage was planned with.
Dataset load_dataset_of(const Stage& stage, const DatasetReference& reference);

// Throws Error when the weights' digest is not the one the stage was planned with. Reads them all.
void check_clip_of(const ClipReference& reference);

// Loads the frozen CLIP to compute_device(); checks it first, on the root.
std::shared_ptr<const ClipModel> load_clip_of(const Stage& stage, const ClipReference& reference,
                                              ClipTowers towers = ClipTowers::both);

// Boxes by image; an image that is not named has none. Unset: the model goes without boxes altogether.
using ImageBoxes = std::optional<std::map<std::string, std::vector<Box>>>;

// What the boxes stages among the inputs found, one for each features stage. Throws UsageError when `model` names a
// source of boxes and the spec no such stage, or the other way round.
std::vector<ImageBoxes> load_boxes_of(const Stage& stage, const ModelSettings& model);

// Whether training looks at boxes: FiLo trains on all nine positions, and so do prompts without positions from boxes.
bool trains_with_boxes(const ModelSettings& model);

// What made the features of such a cache; kept in every shard.
Json features_key(const FeaturesSpec& spec);

// The shapes that the cache of such features has.
FeatureLayout feature_layout(const ClipConfig& clip, const FeaturesSpec& spec);

}  // namespace filo
