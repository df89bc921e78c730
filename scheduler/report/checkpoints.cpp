#include "scheduler/report/checkpoints.hpp"

#include <cstdio>
#include <map>
#include <set>

#include "base/error.hpp"
#include "base/text.hpp"
#include "scheduler/report/checkpoint_rows.hpp"
#include "settings/evaluate.hpp"
#include "settings/metrics.hpp"
#include "settings/model.hpp"
#include "settings/resources.hpp"
#include "settings/schema.hpp"
#include "settings/train.hpp"
#include "workspace/artifacts.hpp"
#include "workspace/spec.hpp"

namespace filo {
namespace {

std::string place(const std::string& digest) { return "checkpoints: " + digest.substr(0, digits_shown); }

const Json& training_of(const CheckpointManifest& manifest, const std::string& digest) {
  if (!manifest.trainings.empty()) return manifest.trainings[0];
  throw Error(place(digest),
              "its manifest has no sound record of a training, expected one: a former version collected it, or it is "
              "damaged (`filo checkpoints verify` says which)");
}

// What of a training may explain other parameters.
std::map<std::string, Json> explaining(const Json& training) {
  std::map<std::string, Json> members;
  flatten(training.value("settings", Json::object()), "", members);
  for (const char* name :
       {"seed", "descriptions", "boxes", "checkpoint", "versions", "products", "host", "device", "world_size"})
    if (training.contains(name)) flatten(training.at(name), name, members);
  if (training.contains("clip")) members["clip.digest"] = text_of(training.at("clip"), "digest");
  for (const auto& dataset : training.value("datasets", Json::array()))
    members["datasets." + text_of(dataset, "name")] = text_of(dataset, "digest");
  members.erase("model.clip");  // where it lay; clip.digest is what it was
  return members;
}

Json model_member(const Json& record, const char* pointer) {
  const Json model = record.value("settings", Json::object()).value(spec_member::model, Json::object());
  return model.value(Json::json_pointer(pointer), Json());
}

// What of an evaluation has to be equal for its metrics to be compared: the images, `evaluate`, and what it evaluates
// otherwise than was trained.
std::string measured_by(const Json& evaluation, const Json& training) {
  Json how = {text_of(evaluation.value("dataset", Json::object()), "digest"),
              evaluation.value("settings", Json::object()).value(spec_member::evaluate, Json())};
  for (const char* pointer : {"/prompts/filter", "/prompts/positions", "/boxes/source"}) {
    const Json evaluated = model_member(evaluation, pointer);
    how.push_back(evaluated == model_member(training, pointer) ? Json() : evaluated);
  }
  return how.dump();
}

Json metrics_of_both(const CheckpointManifest& a, const CheckpointManifest& b) {
  Json list = Json::array();
  for (const Json& one : a.evaluations)
    for (const Json& other : b.evaluations) {
      if (measured_by(one, a.trainings[0]) != measured_by(other, b.trainings[0])) continue;
      for (const std::string& metric : metric_names()) {
        const Json own = one.value("metrics", Json::object()).value(metric, Json());
        const Json theirs = other.value("metrics", Json::object()).value(metric, Json());
        if (own.is_number() || theirs.is_number())
          list.push_back({{"test_dataset", text_of(one.at("dataset"), "name")},
                          {"evaluate", {one.at("stage"), other.at("stage")}},
                          {"metric", metric},
                          {"a", own},
                          {"b", theirs}});
      }
    }
  return list;
}

std::string percent(const Json& value) {
  return value.is_number() ? formatted(100 * value.get<double>(), "%.1f") : "-";
}

const Json& evaluation_of(const CheckpointManifest& manifest, const std::string& digest, const std::string& digits) {
  for (const Json& evaluation : manifest.evaluations)
    if (text_of(evaluation, "stage").starts_with(digits)) return evaluation;
  std::string there;
  for (const Json& evaluation : manifest.evaluations)
    there +=
        (there.empty() ? "" : ", ") + text_of(evaluation, "stage") + " on " + text_of(evaluation.at("dataset"), "name");
  throw UsageError(place(digest), (digits.empty() ? "found no evaluation of it" : "found no evaluation " + digits) +
                                      ", expected " + (there.empty() ? "one: a fold needs data to test on" : there));
}

// What the evaluation says otherwise than the training, in `evaluate`, and the model that both are of.
void reconcile_models(const Json& training, const Json& evaluation, ModelSettings& model, EvaluateSettings& evaluate) {
  const ModelSettings evaluated =
      model_settings_from_json(evaluation.at("settings").at(spec_member::model), "checkpoints: evaluation: model");
  if (evaluated.prompts.filter != model.prompts.filter) evaluate.filter = evaluated.prompts.filter;
  if (evaluated.prompts.positions != model.prompts.positions) evaluate.positions = evaluated.prompts.positions;
  const bool trained_on_boxes = model.boxes.source != BoxSource::none;
  if (trained_on_boxes && evaluated.boxes.source != model.boxes.source) evaluate.boxes = evaluated.boxes.source;
  if (!trained_on_boxes) model.boxes.source = evaluated.boxes.source;
  model.boxes.suppression = evaluated.boxes.suppression;
  for (const Json* record : {&evaluation, &training})
    if (record->contains("boxes") && model.boxes.file.empty()) model.boxes.file = text_of(record->at("boxes"), "path");
}

std::string quoted(const std::string& text) { return Json(text).dump(); }

// `data:` and `folds:`, by the names that the data sets had.
std::string data_text(const Json& trained_on, const std::string& tested_on) {
  std::string data, train;
  std::set<std::string> names;
  for (const auto& dataset : trained_on) {
    const std::string name = text_of(dataset, "name");
    train += (train.empty() ? "" : ", ") + quoted(name);
    names.insert(name);
  }
  names.insert(tested_on);
  for (const auto& name : names) data += (data.empty() ? "" : ", ") + quoted(name) + ": " + quoted(name);
  return "data: {" + data + "}\nfolds:\n  - {train: " + (trained_on.size() == 1 ? train : "[" + train + "]") +
         ", test: " + quoted(tested_on) + "}\n";
}

std::string versions_text(const Json& record) {
  std::string text;
  const Json versions = record.value("versions", Json::object());
  for (const auto& [name, version] : versions.items())
    text += (text.empty() ? "" : ", ") + name + " " + (version.is_string() ? version.get<std::string>() : "?");
  return text.empty() ? "versions that it did not tell" : text;
}

std::string header(const Json& training, const Json& evaluation, const std::string& digest) {
  const std::string train = text_of(training, "stage"), evaluate = text_of(evaluation, "stage");
  std::string text = "# Makes checkpoint " + digest + " again.\n# It was made by stage " + train +
                     " and measured by stage " + evaluate + ", with " + versions_text(training) + ",\n# on " +
                     text_of(training, "host", "a host that it did not tell") + ", device " +
                     text_of(training, "device", "unknown") + ". It needs, by digest:\n";
  std::map<std::string, std::string> datasets;
  for (const auto& dataset : training.value("datasets", Json::array()))
    datasets[text_of(dataset, "name")] = text_of(dataset, "digest");
  datasets[text_of(evaluation.at("dataset"), "name")] = text_of(evaluation.at("dataset"), "digest");
  for (const auto& [name, sum] : datasets) text += "#   data set " + name + "  " + sum + "\n";
  text += "#   CLIP " + text_of(training.at("clip"), "path") + "  " + text_of(training.at("clip"), "digest") + "\n";
  const std::string descriptions = text_of(model_member(training, "/prompts"), "descriptions");
  text += "#   descriptions " + (descriptions.empty() ? "none" : descriptions) + "  " +
          text_of(training, "descriptions", "unknown") + "\n";
  text += "# A data set that is not there: filo dataset add PATH --name NAME\n";
  text += "# With this file as reproduce.yaml (where stage " + train +
          " stands in the plan, all that it depends on is the same):\n#   filo plan reproduce.yaml\n"
          "#   filo run reproduce.yaml\n";
  return text;
}

}  // namespace

Json checkpoint_difference(const Workspace& workspace, const std::string& a, const std::string& b) {
  const CheckpointManifest one = read_checkpoint_manifest(workspace, a), other = read_checkpoint_manifest(workspace, b);
  const Json &own = training_of(one, a), &theirs = training_of(other, b);
  const auto left = explaining(own), right = explaining(theirs);
  Json settings = Json::object();
  for (const auto& [key, value] : left) {
    const auto found = right.find(key);
    if (found == right.end() || found->second != value)
      settings[key] = {value, found == right.end() ? Json() : found->second};
  }
  for (const auto& [key, value] : right)
    if (!left.contains(key)) settings[key] = {Json(), value};
  const std::string weights = text_of(own, "weights");
  return {{"a", a},
          {"b", b},
          {"same_weights", weights.empty() ? Json() : Json(weights == text_of(theirs, "weights"))},
          {"settings", settings},
          {"metrics", metrics_of_both(one, other)}};
}

std::string difference_text(const Json& difference) {
  const std::string a = difference.at("a").get<std::string>().substr(0, digits_shown);
  const std::string b = difference.at("b").get<std::string>().substr(0, digits_shown);
  std::string text =
      a + " and " + b + ": " + (difference.at("same_weights") == true ? "the same parameters\n" : "other parameters\n");
  for (const auto& [key, pair] : difference.at("settings").items())
    text += "  " + key + ": " + pair.at(0).dump() + " -> " + pair.at(1).dump() + "\n";
  if (difference.at("settings").empty()) text += "  no setting differs\n";
  for (const auto& row : difference.at("metrics")) {
    text += "  " + metric_title(row.at("metric")) + " (%) on " + row.at("test_dataset").get<std::string>() + ": " +
            percent(row.at("a")) + " -> " + percent(row.at("b"));
    if (row.at("a").is_number() && row.at("b").is_number())
      text += formatted(100 * (row.at("b").get<double>() - row.at("a").get<double>()), " (%+.1f)");
    text += "\n";
  }
  if (difference.at("metrics").empty()) text += "  no evaluation on the same images with the same settings\n";
  return text;
}

std::string experiment_that_reproduces(const Workspace& workspace, const std::string& digest,
                                       const std::string& evaluation_digits) {
  const CheckpointManifest manifest = read_checkpoint_manifest(workspace, digest);
  const Json& training = training_of(manifest, digest);
  const Json& evaluation = evaluation_of(manifest, digest, evaluation_digits);
  const Json& made = training.at("settings");
  ModelSettings model = model_settings_from_json(made.at(spec_member::model), "checkpoints: training: model");
  Json train = made.value(spec_member::train, Json::object());
  if (training.contains("checkpoint")) train = {{"checkpoint", text_of(training.at("checkpoint"), "path")}};
  EvaluateSettings evaluate = evaluate_settings_from_json(evaluation.at("settings").at(spec_member::evaluate),
                                                          "checkpoints: evaluation: evaluate");
  reconcile_models(training, evaluation, model, evaluate);
  Json trained_on = training.value("datasets", Json::array());
  if (trained_on.empty()) trained_on = evaluation.value("train_datasets", Json::array());
  const Json resources = {{"ranks", training.value("world_size", 1)},
                          {"threads", training.value("threads", 1)},
                          {"gpus", text_of(training, "device").starts_with("cuda") ? 1 : 0}};
  const Schema sections = Schema::record({{"model", model_schema(model.profile)},
                                          {"train", train_schema()},
                                          {"evaluate", evaluate_schema()},
                                          {"resources", resource_schema()}});
  return header(training, evaluation, digest) + "name: reproduce-" + digest.substr(0, digits_shown) + "\n" +
         data_text(trained_on, text_of(evaluation.at("dataset"), "name")) +
         to_yaml(
             sections,
             {{"model", to_json(model)}, {"train", train}, {"evaluate", to_json(evaluate)}, {"resources", resources}});
}

}  // namespace filo
