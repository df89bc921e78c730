#include "workspace/spec.hpp"

#include "base/error.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

// Reads members of a spec; errors name the file and the key.
class SpecReader {
 public:
  SpecReader(const Json& spec, const fs::path& where) : spec_(spec), where_(where) {}

  const Json& at(const char* key) const { return member(spec_, key); }
  [[noreturn]] void refuse(const std::string& key, const std::string& problem) const {
    throw UsageError("worker: " + where_.string() + ": " + key, problem);
  }
  std::string place() const { return where_.string(); }

  std::string text(const Json& object, const char* key) const {
    const Json& value = member(object, key);
    if (!value.is_string()) refuse(key, "found " + value.dump() + ", expected a string");
    return value;
  }
  int count(const char* key) const {  // 0 where there is none
    const Json value = spec_.value(key, Json(0));
    if (!value.is_number_integer() || value < 0)
      refuse(key, "found " + value.dump() + ", expected a number of samples");
    return value;
  }
  DatasetReference dataset(const Json& json) const { return {text(json, "name"), text(json, "digest")}; }
  std::vector<DatasetReference> datasets(const char* name) const {
    const std::string several = std::string(name) + "s";
    if (!spec_.contains(several)) return {dataset(at(name))};
    if (!spec_.at(several).is_array()) refuse(several, "found " + spec_.at(several).dump() + ", expected a list");
    std::vector<DatasetReference> list;
    for (const Json& one : spec_.at(several)) list.push_back(dataset(one));
    return list;
  }
  ClipReference clip() const {
    const Json& json = at(spec_member::clip);
    return {text(json, "path"), text(json, "digest")};
  }
  ModelSettings model() const { return model_settings_from_json(at(spec_member::model), place()); }
  Descriptions descriptions() const { return descriptions_from_json(at(spec_member::descriptions), place()); }

 private:
  const Json& member(const Json& object, const char* key) const {
    if (!object.is_object() || !object.contains(key)) refuse(key, "missing");
    return object.at(key);
  }

  const Json& spec_;
  const fs::path& where_;
};

constexpr const char* boxes_source = "file";
constexpr const char* of_features[] = {"profile",         "image_size",   "layers",    "vv_from",
                                       "clip_activation", "feature_type", "precision", "tiling"};

// The weights' own activation is left out, the usual type of features, float32, and what cuts no image.
Json model_json(const ModelSettings& model) {
  Json json = to_json(model);
  if (model.clip_activation == ClipActivation::weights) json.erase("clip_activation");
  if (model.feature_type == FeatureType::f16) json.erase("feature_type");
  if (model.precision == Precision::fp32) json.erase("precision");
  if (model.tiling.size == 0) json.erase("tiling");
  return json;
}

}  // namespace

Json to_json(const DatasetReference& dataset) { return {{"name", dataset.name}, {"digest", dataset.digest}}; }

Json to_json(const ClipReference& clip) { return {{"path", clip.path}, {"digest", clip.digest}}; }

Json to_json(const CheckpointReference& checkpoint) {
  return {{"path", checkpoint.path}, {"digest", checkpoint.digest}};
}

Json to_json(const BoxesReference& boxes) {
  return {{"source", boxes_source}, {"path", boxes.path}, {"digest", boxes.digest}};
}

FeaturesSpec features_spec_from_json(const Json& spec, const fs::path& where) {
  const SpecReader reader(spec, where);
  // The members that features share with `model:` are checked by the same schema.
  Json model = Json::object();
  const Json required = model_of_features({});
  for (const char* key : of_features)
    if (required.contains(key) || spec.contains(key)) model[key] = reader.at(key);
  return {.dataset = reader.dataset(reader.at(spec_member::dataset)),
          .clip = reader.clip(),
          .model = model_settings_from_json(model, where.string()),
          .mosaics = reader.count(spec_member::mosaics)};
}

BoxesSpec boxes_spec_from_json(const Json& spec, const fs::path& where) {
  const SpecReader reader(spec, where);
  const Json& boxes = reader.at(spec_member::boxes);
  if (const std::string source = reader.text(boxes, "source"); source != boxes_source)
    reader.refuse("boxes.source", "found \"" + source + "\", expected \"" + boxes_source + "\"");
  return {.dataset = reader.dataset(reader.at(spec_member::dataset)),
          .boxes = {reader.text(boxes, "path"), reader.text(boxes, "digest")}};
}

TrainSpec train_spec_from_json(const Json& spec, const fs::path& where) {
  const SpecReader reader(spec, where);
  return {.model = reader.model(),
          .train = train_settings_from_json(reader.at(spec_member::train), reader.place()),
          .descriptions = reader.descriptions(),
          .datasets = reader.datasets(spec_member::dataset),
          .clip = reader.clip()};
}

ImportSpec import_spec_from_json(const Json& spec, const fs::path& where) {
  const SpecReader reader(spec, where);
  const Json& checkpoint = reader.at(spec_member::checkpoint);
  return {.model = reader.model(),
          .clip = reader.clip(),
          .checkpoint = {reader.text(checkpoint, "path"), reader.text(checkpoint, "digest")}};
}

EvaluateSpec evaluate_spec_from_json(const Json& spec, const fs::path& where) {
  const SpecReader reader(spec, where);
  return {.model = reader.model(),
          .evaluate = evaluate_settings_from_json(reader.at(spec_member::evaluate), reader.place()),
          .descriptions = reader.descriptions(),
          .dataset = reader.dataset(reader.at(spec_member::dataset)),
          .train_datasets = reader.datasets(spec_member::train_dataset),
          .clip = reader.clip(),
          .seed = spec.value(spec_member::seed, std::uint64_t{0})};
}

ExportSpec export_spec_from_json(const Json& spec, const fs::path& where) {
  const SpecReader reader(spec, where);
  if (const Json& formats = reader.at(spec_member::formats); formats != Json({"bundle"}))
    reader.refuse(spec_member::formats, "found " + formats.dump() + ", expected [\"bundle\"]");
  return {.clip = reader.clip()};
}

std::string input_of(const Json& spec, const std::string& name, const fs::path& where) {
  const Json inputs = spec.value(spec_member::inputs, Json::object());
  if (const std::string key = text_of(inputs, name.c_str()); !key.empty()) return key;
  throw Error(where.string() + ": inputs." + name, "missing; expected the key of the stage it needs");
}

std::vector<std::string> inputs_of(const Json& spec, const std::string& name, const fs::path& where) {
  std::vector<std::string> keys = {input_of(spec, name, where)};
  const Json& inputs = spec.at(spec_member::inputs);
  while (inputs.contains(input_name(name, keys.size())))
    keys.push_back(input_of(spec, input_name(name, keys.size()), where));
  return keys;
}

std::string input_name(const std::string& name, std::size_t index) {
  return index == 0 ? name : name + "." + std::to_string(index + 1);
}

std::pair<std::string, Json> datasets_member(const std::string& name, const std::vector<DatasetReference>& datasets) {
  if (datasets.size() == 1) return {name, to_json(datasets[0])};
  Json list = Json::array();
  for (const auto& one : datasets) list.push_back(to_json(one));
  return {name + "s", std::move(list)};
}

Json model_of_features(const ModelSettings& model) {
  const Json all = model_json(model);
  Json members = Json::object();
  for (const char* key : of_features)
    if (all.contains(key)) members[key] = all.at(key);
  return members;
}

Json model_of_evaluation(const ModelSettings& model, const std::string& clip) {
  Json json = model_json(model);
  json["clip"] = clip;
  json["boxes"].erase("file");
  return json;
}

Json model_of_training(const ModelSettings& model, const std::string& clip) {
  Json json = model_of_evaluation(model, clip);
  json["boxes"].erase("suppression");
  if (!training_uses_boxes(model)) json["boxes"]["source"] = "none";
  return json;
}

bool training_uses_boxes(const ModelSettings& model) {
  return model.boxes.source != BoxSource::none && model.prompts.positions == PositionSource::boxes &&
         model.profile == Profile::paper;
}

bool evaluation_uses_boxes(const ModelSettings& model) { return model.boxes.source != BoxSource::none; }

}  // namespace filo
