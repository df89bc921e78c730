#include "trainer/stage_inputs.hpp"

#include "base/error.hpp"
#include "settings/clip_digest.hpp"
#include "trainer/device.hpp"

namespace filo {
namespace {

// Boxes stages of versions that did not count phrases wrote "" for a phrase that their file did not tell.
std::map<std::string, std::vector<Box>> read_boxes_of(const Stage& stage, const std::string& key) {
  auto boxes = read_boxes(stage.workspace().boxes_file(key));
  const auto result = stage.workspace().result(key, StageKind::boxes);
  if (result && result->metrics.contains("phrases")) return boxes;
  for (auto& [image, list] : boxes)
    for (Box& box : list)
      if (box.phrase == "") box.phrase.reset();
  return boxes;
}

}  // namespace

void expect_planned(const std::string& where, const std::string& what, const std::string& found,
                    const std::string& planned) {
  if (found != planned)
    throw Error(where,
                what + " is " + found + ", but this stage was planned for " + planned + "; plan again (filo run)");
}

Dataset load_dataset_of(const Stage& stage, const DatasetReference& reference) {
  Dataset dataset = load_dataset(stage.workspace().root(), reference.name);
  expect_planned("worker: data set " + reference.name, "its digest", dataset.digest, reference.digest);
  return dataset;
}

void check_clip_of(const ClipReference& reference) {
  expect_planned("worker: " + reference.path, "the weights' digest", clip_digest(reference.path), reference.digest);
}

std::shared_ptr<const ClipModel> load_clip_of(const Stage& stage, const ClipReference& reference,
                                              const ModelSettings& model, ClipTowers towers) {
  if (stage.is_root()) check_clip_of(reference);
  return load_clip(model, reference.path, compute_device(), towers);
}

std::vector<ImageBoxes> load_boxes_of(const Stage& stage, const ModelSettings& model) {
  const bool wanted = stage.kind() == StageKind::train ? training_uses_boxes(model) : evaluation_uses_boxes(model);
  const Json inputs = stage.spec().value(spec_member::inputs, Json::object());
  if (wanted != inputs.contains(spec_input::boxes))
    throw UsageError("worker: " + stage.spec_file().string() + ": inputs.boxes",
                     wanted ? "missing; expected the key of a boxes stage, because model.boxes.source names one"
                            : "found a boxes stage, but these settings do not use boxes");
  const std::size_t folders = stage.all_inputs(spec_input::features).size();
  if (!wanted) return std::vector<ImageBoxes>(folders);
  std::vector<ImageBoxes> boxes;
  for (const std::string& key : stage.all_inputs(spec_input::boxes)) boxes.push_back(read_boxes_of(stage, key));
  if (boxes.size() != folders)
    throw UsageError("worker: " + stage.spec_file().string() + ": inputs",
                     "found " + std::to_string(boxes.size()) + " boxes stages, expected one for each of " +
                         std::to_string(folders) + " features stages");
  return boxes;
}

Json features_key(const FeaturesSpec& spec) {
  Json key = {{"clip", spec.clip.digest}, {"dataset", spec.dataset.digest}};
  key.update(model_of_features(spec.model));
  return key;
}

FeatureLayout feature_layout(const ClipConfig& clip, const FeaturesSpec& spec) {
  FeatureLayout layout;
  const int side = spec.model.image_size / clip.patch;
  layout.global_size = clip.projection;
  layout.patches = side * side;
  layout.width = clip.vision.width;
  layout.qkv_layers = spec.model.layers;
  for (const int layer : spec.model.layers)
    if (layer >= spec.model.vv_from) layout.vv_layers.push_back(layer);
  layout.mask_size = spec.model.image_size;
  return layout;
}

}  // namespace filo
