#include "trainer/spec.hpp"

#include "base/error.hpp"
#include "settings/clip_digest.hpp"
#include "trainer/device.hpp"

namespace filo {
namespace {

const Json& member(const Json& object, const std::string& key, const std::filesystem::path& where) {
  if (!object.is_object() || !object.contains(key))
    throw UsageError("worker: " + where.string() + ": " + key, "missing");
  return object.at(key);
}

std::string text(const Json& object, const std::string& key, const std::filesystem::path& where) {
  const Json& value = member(object, key, where);
  if (!value.is_string())
    throw UsageError("worker: " + where.string() + ": " + key, "found " + value.dump() + ", expected a string");
  return value;
}

DatasetReference parse_dataset(const Json& json, const std::filesystem::path& where) {
  return {text(json, "name", where), text(json, "digest", where)};
}

ClipReference parse_clip(const Json& json, const std::filesystem::path& where) {
  return {text(json, "path", where), text(json, "digest", where)};
}

// "train_dataset": {...} of one, "train_datasets": [...] of several.
std::vector<DatasetReference> parse_train_datasets(const Json& spec, const std::filesystem::path& where) {
  if (!spec.contains("train_datasets")) return {parse_dataset(member(spec, "train_dataset", where), where)};
  std::vector<DatasetReference> datasets;
  for (const Json& one : spec.at("train_datasets")) datasets.push_back(parse_dataset(one, where));
  return datasets;
}

}  // namespace

FeaturesSpec parse_features_spec(const Json& spec, const std::filesystem::path& where) {
  // The keys that features share with `model:` are checked by the same schema.
  Json model = Json::object();
  for (const char* key : {"profile", "image_size", "layers", "vv_from"}) model[key] = member(spec, key, where);
  const ModelSettings checked = model_settings_from_json(model, where.string());
  return {.dataset = parse_dataset(member(spec, "dataset", where), where),
          .clip = parse_clip(member(spec, "clip", where), where),
          .profile = checked.profile,
          .image_size = checked.image_size,
          .layers = checked.layers,
          .vv_from = checked.vv_from};
}

BoxesSpec parse_boxes_spec(const Json& spec, const std::filesystem::path& where) {
  const Json& boxes = member(spec, "boxes", where);
  if (const std::string source = text(boxes, "source", where); source != "file")
    throw UsageError("worker: " + where.string() + ": boxes.source", "found \"" + source + "\", expected \"file\"");
  return {.dataset = parse_dataset(member(spec, "dataset", where), where),
          .path = text(boxes, "path", where),
          .digest = text(boxes, "digest", where)};
}

TrainSpec parse_train_spec(const Json& spec, const std::filesystem::path& where) {
  return {.model = model_settings_from_json(member(spec, "model", where), where.string()),
          .train = train_settings_from_json(member(spec, "train", where), where.string()),
          .descriptions = descriptions_from_json(member(spec, "descriptions", where), where.string()),
          .clip = parse_clip(member(spec, "clip", where), where)};
}

EvaluateSpec parse_evaluate_spec(const Json& spec, const std::filesystem::path& where) {
  return {.model = model_settings_from_json(member(spec, "model", where), where.string()),
          .evaluate = evaluate_settings_from_json(member(spec, "evaluate", where), where.string()),
          .descriptions = descriptions_from_json(member(spec, "descriptions", where), where.string()),
          .dataset = parse_dataset(member(spec, "dataset", where), where),
          .train_datasets = parse_train_datasets(spec, where),
          .clip = parse_clip(member(spec, "clip", where), where),
          .seed = spec.value("seed", std::uint64_t{0})};
}

ExportSpec parse_export_spec(const Json& spec, const std::filesystem::path& where) {
  if (const Json& formats = member(spec, "formats", where); formats != Json({"bundle"}))
    throw UsageError("worker: " + where.string() + ": formats", "found " + formats.dump() + ", expected [\"bundle\"]");
  return {.clip = parse_clip(member(spec, "clip", where), where)};
}

Dataset load_dataset_of(const Stage& stage, const DatasetReference& reference) {
  Dataset dataset = load_dataset(stage.workspace().root(), reference.name);
  if (dataset.digest != reference.digest)
    throw Error("worker: data set " + reference.name, "its digest is " + dataset.digest +
                                                          ", but this stage was planned for " + reference.digest +
                                                          "; plan again (filo run)");
  return dataset;
}

void check_clip_of(const ClipReference& reference) {
  const std::string digest = clip_digest(reference.path);
  if (digest != reference.digest)
    throw Error("worker: " + reference.path, "the weights' digest is " + digest + ", but this stage was planned for " +
                                                 reference.digest + "; plan again (filo run)");
}

std::shared_ptr<const ClipModel> load_clip_of(const Stage& stage, const ClipReference& reference, ClipTowers towers) {
  if (stage.is_root()) check_clip_of(reference);
  return ClipModel::load(reference.path, compute_device(), towers);
}

bool trains_with_boxes(const ModelSettings& model) {
  return model.boxes.source != BoxSource::none && model.profile == Profile::paper &&
         model.prompts.positions == PositionSource::boxes;
}

std::vector<ImageBoxes> load_boxes_of(const Stage& stage, const ModelSettings& model) {
  const bool wanted =
      stage.spec().value("kind", "") == "train" ? trains_with_boxes(model) : model.boxes.source != BoxSource::none;
  const Json inputs = stage.spec().value("inputs", Json::object());
  if (wanted != inputs.contains("boxes"))
    throw UsageError("worker: " + stage.spec_file().string() + ": inputs.boxes",
                     wanted ? "missing; expected the key of a boxes stage, because model.boxes.source names one"
                            : "found a boxes stage, but these settings do not use boxes");
  const std::size_t folders = stage.all_inputs("features").size();
  if (!wanted) return std::vector<ImageBoxes>(folders);
  std::vector<ImageBoxes> boxes;
  for (const std::string& key : stage.all_inputs("boxes"))
    boxes.push_back(read_boxes(stage.workspace().boxes_file(key)));
  if (boxes.size() != folders)
    throw UsageError("worker: " + stage.spec_file().string() + ": inputs",
                     "found " + std::to_string(boxes.size()) + " boxes stages, expected one for each of " +
                         std::to_string(folders) + " features stages");
  return boxes;
}

Json features_key(const FeaturesSpec& spec) {
  ModelSettings model;
  model.profile = spec.profile;
  return {{"clip", spec.clip.digest},      {"dataset", spec.dataset.digest}, {"profile", to_json(model).at("profile")},
          {"image_size", spec.image_size}, {"layers", spec.layers},          {"vv_from", spec.vv_from}};
}

FeatureLayout feature_layout(const ClipConfig& clip, const FeaturesSpec& spec) {
  FeatureLayout layout;
  const int side = spec.image_size / clip.patch;
  layout.global_size = clip.projection;
  layout.patches = side * side;
  layout.width = clip.vision.width;
  layout.qkv_layers = spec.layers;
  for (const int layer : spec.layers)
    if (layer >= spec.vv_from) layout.vv_layers.push_back(layer);
  layout.mask_size = spec.image_size;
  return layout;
}

}  // namespace filo
