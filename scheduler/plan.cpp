#include "scheduler/plan.hpp"

#include <algorithm>
#include <unordered_map>

#include "base/error.hpp"
#include "scheduler/digests.hpp"
#include "settings/descriptions.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

// Each file and folder is looked at once, however many trials name it.
class Facts {
 public:
  explicit Facts(const Workspace& workspace) : workspace_(workspace) {}

  const DatasetFacts& dataset(const std::string& name) {
    auto found = datasets_.find(name);
    if (found == datasets_.end()) found = datasets_.emplace(name, dataset_facts(workspace_, name)).first;
    return found->second;
  }

  const ClipFacts& clip(const std::string& folder) {
    auto found = clips_.find(folder);
    if (found == clips_.end()) found = clips_.emplace(folder, clip_facts(workspace_, folder)).first;
    return found->second;
  }

  // The part of a descriptions file (or "none") that a data set's classes need.
  const Json& descriptions(const std::string& source, const DatasetFacts& dataset) {
    const auto key = std::make_pair(source, dataset.name);
    auto found = descriptions_.find(key);
    if (found == descriptions_.end()) found = descriptions_.emplace(key, select(source, dataset)).first;
    return found->second;
  }

 private:
  Json select(const std::string& source, const DatasetFacts& dataset) {
    if (source == "none") return to_json(generic_descriptions(dataset.classes));
    const Descriptions all = load_descriptions(source);
    Descriptions selected = all;
    selected.source = Json::object();
    selected.classes.clear();
    for (const auto& name : dataset.classes) selected.classes[name] = all.of(name);
    return to_json(selected);
  }

  const Workspace& workspace_;
  std::map<std::string, DatasetFacts> datasets_;
  std::map<std::string, ClipFacts> clips_;
  std::map<std::pair<std::string, std::string>, Json> descriptions_;
};

void check_against_weights(const Experiment& experiment, const ModelSettings& model, const ClipFacts& clip) {
  const auto refuse = [&](const std::string& key, const std::string& problem) {
    const SourceValue* written = experiment.source.find_dotted(key);
    throw UsageError(
        "settings: " + experiment.path + (written == nullptr ? "" : ":" + std::to_string(written->line)) + ": " + key,
        problem);
  };
  if (model.image_size % clip.patch != 0)
    refuse("model.image_size", "found " + std::to_string(model.image_size) + ", expected a multiple of " +
                                   std::to_string(clip.patch) + ", the patch of " + clip.path);
  if (model.layers.back() > clip.layers)
    refuse("model.layers", "found layer " + std::to_string(model.layers.back()) + ", expected at most " +
                               std::to_string(clip.layers) + ", the vision layers of " + clip.path);
  if (!model.mdci.kernels.empty() && model.vv_from > model.layers.back())
    refuse("model.vv_from", "found " + std::to_string(model.vv_from) + ", expected at most the last of model.layers, " +
                                std::to_string(model.layers.back()) + ": MDCI reads the V-V path");
}

Json clip_json(const ClipFacts& clip) { return {{"path", clip.path}, {"digest", clip.digest}}; }
Json dataset_json(const DatasetFacts& dataset) { return {{"name", dataset.name}, {"digest", dataset.digest}}; }

// What the stages' specs take from one variant, made once for all folds.
struct VariantSpec {
  const ExperimentSettings& settings;
  Json model;
  Json train_model;  // without what acts at evaluation only
  Json train;
  Json evaluate;
  std::string features_id;  // equal for variants with equal features
  std::string train_id;     // equal for variants with equal trainings
};

class Planner {
 public:
  Planner(const Experiment& experiment, const Workspace& workspace) : experiment_(experiment), facts_(workspace) {
    plan_.name = experiment.name;
    plan_.experiment = to_json(experiment);
    plan_.tables = experiment.tables;
    for (const auto& fold : experiment.folds) plan_.folds.push_back(fold.name);
  }

  Plan make() {
    for (const auto& fold : experiment_.folds) check_fold(fold);
    for (const auto& variant : expand(experiment_)) {
      check_against_weights(experiment_, variant.settings.model, facts_.clip(variant.settings.model.clip));
      const VariantSpec spec = spec_of(variant.settings);
      for (const auto& fold : experiment_.folds) add_trial(fold, variant, spec);
    }
    return std::move(plan_);
  }

 private:
  void check_fold(const Fold& fold) {
    const std::string& trained_on = facts_.dataset(fold.train).digest;
    if (trained_on == facts_.dataset(fold.test).digest)
      throw UsageError("settings: " + experiment_.path + ": folds",
                       "found the same images under the names " + fold.train + " and " + fold.test + " in fold " +
                           fold.name + ", expected two data sets: what is tested must be unseen");
  }

  VariantSpec spec_of(const ExperimentSettings& settings) {
    VariantSpec spec{settings, to_json(settings.model), {}, to_json(settings.train), to_json(settings.evaluate), {},
                     {}};
    spec.model["clip"] = facts_.clip(settings.model.clip).path;
    spec.train_model = spec.model;
    spec.train_model["boxes"].erase("suppression");
    Json features = Json::array();
    for (const char* key : {"clip", "profile", "image_size", "layers", "vv_from"}) features.push_back(spec.model[key]);
    spec.features_id = features.dump();
    spec.train_id = spec.train_model.dump() + spec.train.dump();
    return spec;
  }

  void add_trial(const Fold& fold, const Variant& variant, const VariantSpec& spec) {
    const std::string train_features = add_features(fold.train, spec);
    const std::string train = add_train(fold, spec, train_features);
    const std::string test_features = add_features(fold.test, spec);
    const std::string evaluate = add_evaluate(fold, spec, test_features, train);
    plan_.trials.push_back({fold.name, variant.axis_values, train, evaluate});
  }

  std::string add_features(const std::string& dataset, const VariantSpec& variant) {
    std::string& key = known_[dataset + " " + variant.features_id];
    if (!key.empty()) return key;
    return key = add(StageKind::features, "features " + dataset,
                     {{"kind", "features"},
                      {"format", 1},
                      {"dataset", dataset_json(facts_.dataset(dataset))},
                      {"clip", clip_json(facts_.clip(variant.settings.model.clip))},
                      {"profile", variant.model["profile"]},
                      {"image_size", variant.model["image_size"]},
                      {"layers", variant.model["layers"]},
                      {"vv_from", variant.model["vv_from"]},
                      {"inputs", Json::object()}},
                     variant.settings.resources);
  }

  std::string add_train(const Fold& fold, const VariantSpec& variant, const std::string& features) {
    std::string& key = known_[fold.train + " " + variant.train_id];
    if (!key.empty()) return key;
    const DatasetFacts& dataset = facts_.dataset(fold.train);
    return key = add(StageKind::train, "train " + fold.train,
                     {{"kind", "train"},
                      {"format", 1},
                      {"model", variant.train_model},
                      {"train", variant.train},
                      {"descriptions", facts_.descriptions(variant.settings.model.prompts.descriptions, dataset)},
                      {"clip", clip_json(facts_.clip(variant.settings.model.clip))},
                      {"dataset", dataset_json(dataset)},
                      {"inputs", {{"features", features}}}},
                     variant.settings.resources);
  }

  std::string add_evaluate(const Fold& fold, const VariantSpec& variant, const std::string& features,
                           const std::string& train) {
    const DatasetFacts& dataset = facts_.dataset(fold.test);
    return add(StageKind::evaluate, "evaluate " + fold.train + " on " + fold.test,
               {{"kind", "evaluate"},
                {"format", 1},
                {"model", variant.model},
                {"evaluate", variant.evaluate},
                {"seed", variant.settings.train.seed},
                {"descriptions", facts_.descriptions(variant.settings.model.prompts.descriptions, dataset)},
                {"clip", clip_json(facts_.clip(variant.settings.model.clip))},
                {"dataset", dataset_json(dataset)},
                {"train_dataset", dataset_json(facts_.dataset(fold.train))},
                {"inputs", {{"features", features}, {"train", train}}}},
               variant.settings.resources);
  }

  std::string add(StageKind kind, const std::string& label, Json spec, const ResourceSettings& resources) {
    std::string key = stage_key(spec);
    if (!index_.emplace(key, plan_.stages.size()).second) return key;
    std::vector<std::string> inputs;
    for (const auto& [name, input] : spec.at("inputs").items()) inputs.push_back(input);
    plan_.stages.push_back({key, kind, label, inputs, resources, std::move(spec)});
    return key;
  }

  const Experiment& experiment_;
  Facts facts_;
  Plan plan_;
  std::unordered_map<std::string, std::size_t> index_;
  std::unordered_map<std::string, std::string> known_;  // features and trainings: what they are made of -> key
};

// Keys become paths.
std::string checked_key(const Json& json, const fs::path& path) {
  const auto key = json.get<std::string>();
  if (key.size() == 16 && key.find_first_not_of("0123456789abcdef") == std::string::npos) return key;
  throw Error("scheduler: " + path.string(), "found " + json.dump() + ", expected a stage's key of 16 hex digits");
}

Json to_json(const Table& table) {
  return {{"title", table.title}, {"rows", table.rows}, {"columns", table.columns}, {"metrics", table.metrics}};
}

}  // namespace

const PlannedStage& Plan::stage(const std::string& key) const {
  for (const auto& candidate : stages)
    if (candidate.key == key) return candidate;
  throw Error("scheduler: plan of " + name, "found no stage " + key);
}

Plan make_plan(const Experiment& experiment, const Workspace& workspace) {
  return Planner(experiment, workspace).make();
}

void save_plan(const Plan& plan, const Workspace& workspace) {
  Json json = {{"format", 1},
               {"name", plan.name},
               {"experiment", plan.experiment},
               {"folds", plan.folds},
               {"tables", Json::array()},
               {"stages", Json::array()},
               {"trials", Json::array()}};
  for (const auto& table : plan.tables) json["tables"].push_back(to_json(table));
  for (const auto& stage : plan.stages) {
    workspace.create_stage(stage.key, stage.spec);
    json["stages"].push_back({{"key", stage.key},
                              {"kind", to_string(stage.kind)},
                              {"label", stage.label},
                              {"inputs", stage.inputs},
                              {"resources", to_json(stage.resources)}});
  }
  for (const auto& trial : plan.trials)
    json["trials"].push_back({{"fold", trial.fold},
                              {"axis_values", trial.axis_values},
                              {"train", trial.train},
                              {"evaluate", trial.evaluate}});
  fs::create_directories(workspace.experiment_folder(plan.name));
  write_json(workspace.experiment_folder(plan.name) / "plan.json", json);
}

Plan load_plan(const Workspace& workspace, const std::string& name) {
  const fs::path path = workspace.experiment_folder(name) / "plan.json";
  std::error_code error;
  if (!is_plain_name(name) || !fs::exists(path, error)) {
    const std::string near = nearest(name, experiment_names(workspace));
    throw UsageError("scheduler: experiment " + name, "found none of this name in " + workspace.root().string() +
                                                          ", expected one that filo run has planned" +
                                                          (near.empty() ? "" : "; did you mean " + near + "?"));
  }
  const Json json = read_json(path);
  try {
    Plan plan{.name = json.at("name"),
              .experiment = json.at("experiment"),
              .tables = {},
              .folds = json.at("folds"),
              .stages = {},
              .trials = {}};
    for (const auto& table : json.at("tables"))
      plan.tables.push_back({table.at("title"), table.at("rows"), table.at("columns"), table.at("metrics")});
    for (const auto& stage : json.at("stages"))
      plan.stages.push_back({checked_key(stage.at("key"), path), stage_kind(stage.at("kind")), stage.at("label"),
                             stage.at("inputs"), resource_settings_from_json(stage.at("resources"), path.string()),
                             Json()});
    for (const auto& trial : json.at("trials"))
      plan.trials.push_back({trial.at("fold"), trial.at("axis_values").get<std::map<std::string, Json>>(),
                             checked_key(trial.at("train"), path), checked_key(trial.at("evaluate"), path)});
    return plan;
  } catch (const Json::exception& problem) {
    throw Error("scheduler: " + path.string(),
                std::string("found a plan of another form (") + problem.what() + "); filo run writes it anew");
  }
}

std::vector<std::string> experiment_names(const Workspace& workspace) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(workspace.root() / "experiments", error))
    if (fs::exists(entry.path() / "plan.json")) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace filo
