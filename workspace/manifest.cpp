#include "workspace/manifest.hpp"

#include <algorithm>
#include <fstream>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "workspace/spec.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

constexpr int manifest_format = 1;

fs::path record_file(const Workspace& workspace, const std::string& digest, const std::string& key) {
  return workspace.manifest_folder(digest) / (key + ".json");
}

// The last `started` event: an attempt may have been started several times.
Json started_event(const Workspace& workspace, const std::string& key, int attempt) {
  Json started = Json::object();
  std::ifstream file(workspace.events_file(key, attempt));
  for (std::string line; std::getline(file, line);) {
    if (line.find("\"started\"") == std::string::npos) continue;
    const Json event = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (text_of(event, "event") == "started") started = event;
  }
  return started;
}

// {"name": {...}} of one, {"names": [...]} of several, as a list.
Json datasets_of(const Json& spec, const std::string& name) {
  if (spec.contains(name + "s")) return spec.at(name + "s");
  return spec.contains(name) ? Json::array({spec.at(name)}) : Json::array();
}

Json without_classes(Json metrics) {
  metrics.erase("classes");
  if (metrics.contains("untrained") && metrics["untrained"].is_object()) metrics["untrained"].erase("classes");
  return metrics;
}

std::string digest_of(Json record) {
  record.erase("sha256");
  return sha256_hex(canonical_json(record));
}

void copy_members(const Json& from, std::initializer_list<const char*> names, Json& to) {
  for (const char* name : names)
    if (from.contains(name)) to[name] = from.at(name);
}

Json of_training(const Json& spec, const std::string& weights) {
  Json record = {{"datasets", datasets_of(spec, spec_member::dataset)}, {"weights", weights}};
  if (const Json train = spec.value(spec_member::train, Json::object()); train.contains(spec_member::seed))
    record[spec_member::seed] = train.at(spec_member::seed);
  copy_members(spec, {spec_member::checkpoint}, record);
  return record;
}

Json of_evaluation(const Json& spec, const StageResult& result) {
  Json record = {{"train_datasets", datasets_of(spec, spec_member::train_dataset)},
                 {"metrics", without_classes(result.metrics)}};
  copy_members(spec, {spec_member::dataset, spec_member::seed}, record);
  return record;
}

// {path, digest} of the file of boxes that it looked at; null where it looked at none.
Json boxes_of(const Workspace& workspace, const Json& parents) {
  const std::string key = text_of(parents, spec_input::boxes);
  const auto spec = is_stage_key(key) ? read_json_if_sound(workspace.spec_file(key)) : std::nullopt;
  return spec && spec->is_object() ? spec->value(spec_member::boxes, Json()) : Json();
}

// Why the record in a file is none; "" where it is sound.
std::string problem_of(const std::optional<Json>& record, const std::string& key) {
  if (!record || !record->is_object()) return "is no JSON object, expected a stage's record";
  const std::string found = text_of(*record, "sha256");
  if (const std::string expected = digest_of(*record); found != expected)
    return "is not as it was written: its content has SHA-256 " + expected + ", it says " +
           (found.empty() ? "none" : found);
  if (text_of(*record, "stage") != key) return "is of stage " + text_of(*record, "stage", "-") + ", expected " + key;
  return "";
}

}  // namespace

std::optional<Json> manifest_record(const Workspace& workspace, const std::string& key, StageKind kind,
                                    const std::string& experiment, const std::string& weights) {
  const auto spec = read_json_if_sound(workspace.spec_file(key));
  const auto result = workspace.result(key, kind);
  if (!spec || !spec->is_object() || !result) return std::nullopt;
  Json record = kind == StageKind::train ? of_training(*spec, weights) : of_evaluation(*spec, *result);
  record.update({{"format", manifest_format},
                 {"kind", to_string(kind)},
                 {"stage", key},
                 {"attempt", result->attempt},
                 {"experiment", experiment},
                 {"settings", Json::object()},
                 {"seconds", result->seconds},
                 {"world_size", result->world_size},
                 {"threads", result->threads},
                 {"device", result->device}});
  copy_members(*spec, {spec_member::model, spec_member::train, spec_member::evaluate}, record["settings"]);
  copy_members(*spec, {spec_member::clip}, record);
  record["parents"] = spec->value(spec_member::inputs, Json::object());
  if (Json boxes = boxes_of(workspace, record["parents"]); boxes.is_object()) record["boxes"] = std::move(boxes);
  if (spec->contains(spec_member::descriptions))
    record["descriptions"] = sha256_hex(canonical_json(spec->at(spec_member::descriptions)));
  const Json started = started_event(workspace, key, result->attempt);
  copy_members(started, {"host", "versions", "products"}, record);
  if (started.contains("time")) record["started"] = started.at("time");
  const auto claim = workspace.claim(key, result->attempt);
  if (!record.contains("host") && claim && claim->contains("host")) record["host"] = claim->at("host");
  record["sha256"] = digest_of(record);
  return record;
}

bool is_in_manifest(const Workspace& workspace, const std::string& digest, const std::string& key, int attempt) {
  const auto record = read_json_if_sound(record_file(workspace, digest, key));
  return problem_of(record, key).empty() && record->value("attempt", 0) == attempt;
}

void add_to_manifest(const Workspace& workspace, const std::string& digest, const Json& record) {
  const std::string key = record.at("stage");
  if (is_in_manifest(workspace, digest, key, record.at("attempt"))) return;
  fs::create_directories(workspace.manifest_folder(digest));
  write_json(record_file(workspace, digest, key), record);
}

CheckpointManifest read_checkpoint_manifest(const Workspace& workspace, const std::string& digest) {
  CheckpointManifest manifest;
  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(workspace.manifest_folder(digest), error))
    if (is_stage_key(entry.path().stem().string()) && entry.path().extension() == ".json")
      files.push_back(entry.path());
  std::ranges::sort(files);
  for (const fs::path& file : files) {
    auto record = read_json_if_sound(file);
    if (const std::string problem = problem_of(record, file.stem().string()); !problem.empty())
      manifest.problems.push_back("manifest/" + file.filename().string() + ": " + problem);
    else
      (text_of(*record, "kind") == to_string(StageKind::train) ? manifest.trainings : manifest.evaluations)
          .push_back(std::move(*record));
  }
  return manifest;
}

}  // namespace filo
