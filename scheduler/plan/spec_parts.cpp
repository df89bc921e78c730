#include "scheduler/plan/spec_parts.hpp"

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/installed.hpp"
#include "scheduler/plan/clip_activation.hpp"
#include "settings/descriptions.hpp"
#include "workspace/checkpoint_files.hpp"
#include "workspace/spec.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

void check_against_weights(const Experiment& experiment, const ModelSettings& model, const ClipInfo& clip) {
  const auto refuse = [&](const std::string& key, const std::string& problem) {
    throw UsageError(experiment.place(key), problem);
  };
  if (model.image_size % clip.sizes.patch != 0)
    refuse("model.image_size", "found " + std::to_string(model.image_size) + ", expected a multiple of " +
                                   std::to_string(clip.sizes.patch) + ", the patch of " + clip.path);
  if (model.layers.back() > clip.sizes.layers)
    refuse("model.layers", "found layer " + std::to_string(model.layers.back()) + ", expected at most " +
                               std::to_string(clip.sizes.layers) + ", the vision layers of " + clip.path);
  if (!model.mdci.kernels.empty() && model.vv_from > model.layers.back())
    refuse("model.vv_from", "found " + std::to_string(model.vv_from) + ", expected at most the last of model.layers, " +
                                std::to_string(model.layers.back()) + ": MDCI reads the V-V path");
  const std::string& descriptions = model.prompts.descriptions;
  if (descriptions != "none" && !fs::is_regular_file(shipped_file(descriptions)))
    refuse("model.prompts.descriptions", "found " + descriptions +
                                             ", which is no file here, nor one that came with the programs, expected a "
                                             "descriptions file such as configs/descriptions/builtin.yaml, or none");
  if (model.boxes.source == BoxSource::grounding_dino)
    refuse("model.boxes.source", "found grounding-dino, which no stage runs yet, expected none or file");
  if (model.boxes.source == BoxSource::file && model.boxes.file.empty())
    refuse("model.boxes.file", "found nothing, expected the file of boxes that model.boxes.source: file reads");
}

void check_evaluated(const Experiment& experiment, const ModelSettings& model, const EvaluateSettings& evaluate) {
  if (model.profile == Profile::filo_release && evaluate.filter.value_or(false))
    throw UsageError(experiment.place("evaluate.filter"),
                     "found true with profile filo-release, which has no filter, expected false or nothing");
  if (evaluate.boxes == BoxSource::file && model.boxes.file.empty())
    throw UsageError(experiment.place("model.boxes.file"),
                     "found nothing, expected the file of boxes that evaluate.boxes: file reads");
}

// As it stands in the spec: what the spec's `model` says already is left out, and a seed that decides nothing or is the
// training's, so that equal evaluations are one stage.
EvaluateSettings without_what_others_say(EvaluateSettings settings, std::uint64_t train_seed) {
  settings.filter.reset();
  settings.positions.reset();
  settings.boxes.reset();
  if (settings.shots == 0 || settings.seed == train_seed) settings.seed.reset();
  return settings;
}

// The part of a descriptions file (or "none") that a data set's classes need.
Json select_descriptions(const std::string& source, const DatasetInfo& dataset) {
  const Descriptions all = descriptions_named(source, dataset.classes);
  Descriptions selected = all;
  selected.source = Json::object();
  selected.classes.clear();
  for (const auto& name : dataset.classes) selected.classes[name] = all.of(name);
  return to_json(selected);
}

// The settings that learnable parameters fit, or were made for, by their dotted keys.
Json what_parameters_depend_on(ModelSettings model, const ClipSizes& weights) {
  model.clip_activation = planned_activation(model, weights);
  Json json = to_json(model);
  Json kept = {{"prompts.method", json["prompts"]["method"]}, {"prompts.vectors", json["prompts"]["vectors"]}};
  for (const char* key : {"profile", "clip_activation", "image_size", "layers", "vv_from", "mdci"})
    kept[key] = json[key];
  return kept;
}

}  // namespace

void SpecParts::begin(const Experiment& experiment) {
  experiment_ = &experiment;
  sections_.clear();
  models_.clear();
}

const DatasetInfo& SpecParts::dataset(const std::string& name) {
  auto found = datasets_.find(name);
  if (found == datasets_.end()) found = datasets_.emplace(name, dataset_info(workspace_, name)).first;
  return found->second;
}

const ClipInfo& SpecParts::clip(const std::string& folder) {
  auto found = clips_.find(folder);
  if (found == clips_.end()) found = clips_.emplace(folder, clip_info(workspace_, folder)).first;
  return found->second;
}

const ModelParts& SpecParts::model(const Variant& variant) {
  const EvaluateSettings& evaluate = variant.settings.evaluate;
  const ModelKey key = {variant.sections[0], evaluate.filter, evaluate.positions, evaluate.boxes};
  auto found = models_.find(key);
  if (found == models_.end()) found = models_.emplace(key, make_model(variant.settings.model, evaluate)).first;
  return found->second;
}

ModelParts SpecParts::make_model(const ModelSettings& given, const EvaluateSettings& evaluate) {
  const ClipInfo& weights = clip(given.clip);
  check_against_weights(*experiment_, given, weights);
  check_evaluated(*experiment_, given, evaluate);
  ModelSettings model = given;
  model.clip_activation = planned_activation(given, weights.sizes);
  const ModelSettings evaluated = evaluated_model(model, evaluate);
  ModelParts parts;
  parts.train_boxes = training_uses_boxes(model);
  parts.evaluate_boxes = evaluation_uses_boxes(evaluated);
  parts.clip = any(spec_member::clip, to_json(ClipReference{weights.path, weights.digest}));
  parts.model = any(spec_member::model, model_of_evaluation(evaluated, weights.path));
  parts.train_model = any(spec_member::model, model_of_training(model, weights.path));
  const Json features = model_of_features(model);
  for (const auto& [key, value] : features.items()) parts.features.push_back(any(key, value));
  return parts;
}

template <typename Make>
SpecPart SpecParts::section(const std::string& name, const std::string& number, Make make) {
  SpecPart& known = sections_[name + number];
  if (!known) known = any(name, make());
  return known;
}

SpecPart SpecParts::train(const Variant& variant) {
  return section(spec_member::train, std::to_string(variant.sections[1]),
                 [&] { return to_json(variant.settings.train); });
}

SpecPart SpecParts::evaluate(const Variant& variant) {
  const EvaluateSettings settings = without_what_others_say(variant.settings.evaluate, variant.settings.train.seed);
  return section(spec_member::evaluate, std::to_string(variant.sections[2]) + (settings.seed ? " seeded" : ""),
                 [&] { return to_json(settings); });
}

SpecPart SpecParts::seed(const Variant& variant) {
  return section(spec_member::seed, std::to_string(variant.sections[1]),
                 [&] { return Json(variant.settings.train.seed); });
}

SpecPart SpecParts::datasets(const std::string& name, const std::vector<std::string>& datasets, bool by_name) {
  std::vector<DatasetReference> references;
  for (const auto& one : datasets) references.push_back({one, by_name ? "" : dataset(one).digest});
  auto [member, value] = datasets_member(name, references);
  return any(member, std::move(value));
}

const Json& SpecParts::descriptions_of(const std::string& source, const DatasetInfo& dataset) {
  const auto key = std::make_pair(source, dataset.name);
  auto found = descriptions_.find(key);
  if (found == descriptions_.end()) found = descriptions_.emplace(key, select_descriptions(source, dataset)).first;
  return found->second;
}

SpecPart SpecParts::descriptions(const std::vector<std::string>& datasets, const ModelSettings& model) {
  const std::string& source = model.prompts.descriptions;
  std::string key;
  for (const auto& one : datasets) key += one + " ";
  SpecPart& known = described_[key + source];
  if (known) return known;
  Json all = descriptions_of(source, dataset(datasets[0]));
  for (std::size_t i = 1; i < datasets.size(); ++i)  // of one file: a class that two data sets have reads the same
    all["classes"].update(descriptions_of(source, dataset(datasets[i]))["classes"]);
  return known = any(spec_member::descriptions, all);
}

SpecPart SpecParts::boxes(const std::string& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error))
    throw UsageError(experiment_->place("model.boxes.file"),
                     "found " + path + ", which is no file; expected boxes as JSON: {IMAGE: [{box, score, phrase}]}");
  return any(spec_member::boxes,
             to_json(BoxesReference{fs::absolute(path).lexically_normal().string(), file_digest(path)}));
}

SpecPart SpecParts::checkpoint(const std::string& path, const Variant& variant) {
  const auto refuse = [&](const std::string& found, const std::string& expected) {
    throw UsageError(experiment_->place("train.checkpoint"), "found " + path + ", " + found + ", expected " + expected);
  };
  std::error_code error;
  for (const auto& file : {settings_file(path), parameters_file(path)})
    if (!fs::is_regular_file(file, error))
      refuse("without " + file.filename().string(),
             "a checkpoint's folder, as a training or `filo-worker import-checkpoint FILE` leaves it");
  const std::string where = settings_file(path).string();
  const Json settings = read_json(where);
  for (const char* key : {"model", "clip"})
    if (!settings.is_object() || !settings.contains(key) || !settings.at(key).is_object())
      refuse("whose settings.json has no " + std::string(key), "a checkpoint's");
  const ClipInfo& weights = clip(variant.settings.model.clip);
  const Json own = what_parameters_depend_on(model_settings_from_json(settings.at("model"), where), weights.sizes);
  const Json wanted = what_parameters_depend_on(variant.settings.model, weights.sizes);
  for (const auto& [key, value] : wanted.items())
    if (own.at(key) != value) refuse("whose model." + key + " is " + own.at(key).dump(), value.dump() + " as here");
  if (const std::string digest = text_of(settings.at("clip"), "digest"); !digest.empty() && digest != weights.digest)
    refuse("which belongs to weights of digest " + digest, weights.digest + " of " + weights.path);
  return any(spec_member::checkpoint, to_json(CheckpointReference{fs::absolute(path).lexically_normal().string(),
                                                                  file_digest(parameters_file(path))}));
}

const std::string& SpecParts::file_digest(const std::string& path) {
  std::string& digest = file_digests_[path];
  if (digest.empty()) digest = sha256_hex_of_file(path);
  return digest;
}

SpecPart SpecParts::any(const std::string& name, Json value) {
  std::string text = name + " " + value.dump();
  auto found = parts_.find(text);
  if (found == parts_.end()) found = parts_.emplace(std::move(text), StageSpec::part(name, std::move(value))).first;
  return found->second;
}

}  // namespace filo
