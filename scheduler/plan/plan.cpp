#include "scheduler/plan/plan.hpp"

#include <algorithm>
#include <unordered_map>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/installed.hpp"
#include "base/text.hpp"
#include "scheduler/plan/digests.hpp"
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
    throw UsageError(experiment.place(key), problem);
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

// What training sees of the boxes: the positions in its prompts; FiLo's trains on all nine.
bool training_uses_boxes(const ModelSettings& model) {
  return model.boxes.source != BoxSource::none && model.prompts.positions == PositionSource::boxes &&
         model.profile == Profile::paper;
}

bool evaluation_uses_boxes(const ModelSettings& model) { return model.boxes.source != BoxSource::none; }

using Part = std::shared_ptr<const StageSpec::Part>;

Json clip_json(const ClipFacts& clip) { return {{"path", clip.path}, {"digest", clip.digest}}; }
Json dataset_json(const DatasetFacts& dataset) { return {{"name", dataset.name}, {"digest", dataset.digest}}; }

// What the stages' specs take from one `model:` section.
struct ModelParts {
  Part model;        // of evaluations
  Part train_model;  // without what acts at evaluation only
  Part clip;
  std::vector<Part> features;  // of a features stage, but kind and data set
  bool train_boxes = false;
  bool evaluate_boxes = false;
};

class Planner {
 public:
  explicit Planner(const Workspace& workspace) : facts_(workspace) {}

  Plan make(const Experiment& experiment) {
    plan_.name = experiment.name;
    plan_.experiment = to_json(experiment);
    add_experiment(experiment);
    for (const auto& part : experiment.included) add_experiment(part);
    tell_apart();
    return std::move(plan_);
  }

 private:
  using AxisValues = std::map<std::string, Json>;

  // What the trials that name a stage have in common goes into its label.
  void tell_apart() {
    std::unordered_map<std::string_view, AxisValues> common;
    for (const auto& trial : plan_.trials)
      for (const std::string* key : {&trial.train, &trial.evaluate}) {
        const auto [known, first] = common.try_emplace(*key, trial.axis_values);
        if (!first) keep_equal(known->second, trial.axis_values);
      }
    for (auto& stage : plan_.stages) {
      const auto found = common.find(stage.kind == StageKind::exported ? stage.inputs.front() : stage.key);
      if (found == common.end()) continue;
      const std::string values = describe_axis_values(found->second);
      if (!values.empty()) stage.label += " (" + values + ")";
    }
  }

  // Of points that have names and are not one and the same, nothing but the seed is told: the rest would be long.
  static void keep_equal(AxisValues& values, const AxisValues& others) {
    const bool named = values.contains("name") || others.contains("name");
    std::erase_if(values, [&](const auto& value) {
      const auto other = others.find(value.first);
      return other == others.end() || other->second != value.second;
    });
    if (named && !values.contains("name"))
      std::erase_if(values, [](const auto& value) { return value.first != "train.seed"; });
  }

  void add_experiment(const Experiment& experiment) {
    experiment_ = &experiment;
    models_.clear();
    sections_.clear();
    plan_.tables.insert(plan_.tables.end(), experiment.tables.begin(), experiment.tables.end());
    if (experiment.search) plan_.searches[experiment.name] = *experiment.search;
    for (const auto& fold : experiment.folds) check_fold(fold);
    for_each_variant(experiment, [&](const Variant& variant) {
      for (const std::size_t fold : variant.folds) add_trial(fold, variant);
    });
  }

  void check_fold(const Fold& fold) {
    std::vector<std::string> names = fold.train;
    names.push_back(fold.test);
    std::map<std::string, std::string> name_of;  // by digest
    for (const auto& name : names) {
      const auto [known, is_new] = name_of.emplace(facts_.dataset(name).digest, name);
      if (!is_new)
        throw UsageError(experiment_->place("folds"),
                         "found the same images under the names " + known->second + " and " + name + " in fold " +
                             fold.name + ", expected data sets that differ: what is tested must be unseen");
    }
  }

  void add_trial(std::size_t fold_index, const Variant& variant) {
    const Fold& fold = experiment_->folds[fold_index];
    const ModelParts& model = model_parts(variant);
    const std::string train = add_train(fold, variant, model);
    if (!experiment_->export_formats.empty()) add_export(fold, variant, model, train);
    const std::string evaluate = add_evaluate(fold, variant, model, train);
    const bool searched = experiment_->search.has_value();
    plan_.trials.push_back(
        {experiment_->name, fold.name, variant.axis_values, train, evaluate,
         searched ? static_cast<std::int64_t>(variant.grid_point * experiment_->folds.size() + fold_index) : -1});
  }

  // One object for equal parts, so that equal stages are found by comparing pointers.
  Part part(const std::string& name, Json value) {
    std::string text = name + " " + value.dump();
    auto found = parts_.find(text);
    if (found == parts_.end()) found = parts_.emplace(std::move(text), StageSpec::part(name, std::move(value))).first;
    return found->second;
  }

  // The part of a whole section ("train", "evaluate"); made once for each number that Variant::sections gives.
  template <typename Make>
  Part section_part(const std::string& name, std::size_t number, Make make) {
    Part& known = sections_[name + std::to_string(number)];
    if (!known) known = part(name, make());
    return known;
  }

  const ModelParts& model_parts(const Variant& variant) {
    const auto [found, is_new] = models_.try_emplace(variant.sections[0]);
    ModelParts& parts = found->second;
    if (!is_new) return parts;
    const ModelSettings& model = variant.settings.model;
    const ClipFacts& clip = facts_.clip(model.clip);
    check_against_weights(*experiment_, model, clip);
    Json json = to_json(model);
    json["clip"] = clip.path;
    json["boxes"].erase("file");  // the key of the stage that reads it stands among the inputs
    parts.model = part("model", json);
    parts.clip = part("clip", clip_json(clip));
    for (const char* key : {"profile", "image_size", "layers", "vv_from"})
      parts.features.push_back(part(key, json.at(key)));
    json["boxes"].erase("suppression");
    parts.train_boxes = training_uses_boxes(model);
    parts.evaluate_boxes = evaluation_uses_boxes(model);
    if (!parts.train_boxes) json["boxes"]["source"] = "none";
    parts.train_model = part("model", json);
    return parts;
  }

  // Known stages, by what they are made of; `make` gives the spec's parts, inputs last.
  template <typename Make>
  std::string known_or(const std::string& identity, StageKind kind, const std::string& label, const Variant& variant,
                       Make make) {
    const auto found = known_.find(identity);
    if (found != known_.end()) return found->second;
    const std::string key = add(kind, label, make(), variant.settings.resources);
    known_.emplace(identity, key);
    return key;
  }

  static std::string identity(const Part& one) {
    return std::to_string(reinterpret_cast<std::uintptr_t>(one.get())) + " ";
  }

  std::string add_features(const std::string& dataset, const Variant& variant, const ModelParts& model) {
    std::string made_of = "features " + dataset + " " + identity(model.clip);
    for (const auto& one : model.features) made_of += identity(one);
    return known_or(made_of, StageKind::features, "features " + dataset, variant, [&] {
      std::vector<Part> parts = model.features;
      parts.push_back(model.clip);
      parts.push_back(part("dataset", dataset_json(facts_.dataset(dataset))));
      parts.push_back(part("inputs", Json::object()));
      return parts;
    });
  }

  std::string add_boxes(const std::string& dataset, const Variant& variant) {
    std::string path = variant.settings.model.boxes.file;
    for (auto at = path.find("{data}"); at != std::string::npos; at = path.find("{data}", at + dataset.size()))
      path.replace(at, 6, dataset);
    return known_or("boxes " + dataset + " " + path, StageKind::boxes, "boxes " + dataset, variant, [&] {
      return std::vector<Part>{part("boxes", {{"source", "file"},
                                              {"path", fs::absolute(path).lexically_normal().string()},
                                              {"digest", boxes_digest(path)}}),
                               part("dataset", dataset_json(facts_.dataset(dataset))), part("inputs", Json::object())};
    });
  }

  std::string boxes_digest(const std::string& path) {
    std::string& digest = digests_[path];
    if (!digest.empty()) return digest;
    std::error_code error;
    if (!fs::is_regular_file(path, error))
      throw UsageError(experiment_->place("model.boxes.file"),
                       "found " + path + ", which is no file; expected boxes as JSON: {IMAGE: [{box, score, phrase}]}");
    return digest = sha256_hex_of_file(path);
  }

  std::string add_train(const Fold& fold, const Variant& variant, const ModelParts& model) {
    const Part train = section_part("train", variant.sections[1], [&] { return to_json(variant.settings.train); });
    const std::string label = "train " + trained_on(fold);
    std::string made_of = label + " " + identity(model.train_model) + identity(train) + identity(model.clip);
    if (model.train_boxes) made_of += variant.settings.model.boxes.file;
    return known_or(made_of, StageKind::train, label, variant, [&] {
      Json inputs = Json::object();
      for (std::size_t i = 0; i < fold.train.size(); ++i) {
        const std::string number = i == 0 ? "" : "." + std::to_string(i + 1);
        inputs["features" + number] = add_features(fold.train[i], variant, model);
        if (model.train_boxes) inputs["boxes" + number] = add_boxes(fold.train[i], variant);
      }
      return std::vector<Part>{model.train_model,
                               train,
                               model.clip,
                               part("descriptions", descriptions(fold.train, variant.settings.model)),
                               datasets_part("dataset", fold.train),
                               part("inputs", inputs)};
    });
  }

  // "dataset": {...} of one, "datasets": [...] of several.
  Part datasets_part(const std::string& name, const std::vector<std::string>& names) {
    if (names.size() == 1) return part(name, dataset_json(facts_.dataset(names[0])));
    Json list = Json::array();
    for (const auto& one : names) list.push_back(dataset_json(facts_.dataset(one)));
    return part(name + "s", list);
  }

  Json descriptions(const std::vector<std::string>& datasets, const ModelSettings& model) {
    Json all = facts_.descriptions(model.prompts.descriptions, facts_.dataset(datasets[0]));
    for (std::size_t i = 1; i < datasets.size(); ++i)  // of one file: a class that two data sets have reads the same
      all["classes"].update(facts_.descriptions(model.prompts.descriptions, facts_.dataset(datasets[i]))["classes"]);
    return all;
  }

  std::string add_evaluate(const Fold& fold, const Variant& variant, const ModelParts& model,
                           const std::string& train) {
    const DatasetFacts& dataset = facts_.dataset(fold.test);
    const Part evaluate =
        section_part("evaluate", variant.sections[2], [&] { return to_json(variant.settings.evaluate); });
    const Part seed = section_part("seed", variant.sections[1], [&] { return Json(variant.settings.train.seed); });
    Json inputs = {{"features", add_features(fold.test, variant, model)}, {"train", train}};
    if (model.evaluate_boxes) inputs["boxes"] = add_boxes(fold.test, variant);
    Part& described = test_descriptions_[fold.test + " " + variant.settings.model.prompts.descriptions];
    if (!described) described = part("descriptions", descriptions({fold.test}, variant.settings.model));
    return add(StageKind::evaluate, "evaluate " + trained_on(fold) + " on " + fold.test,
               {model.model, evaluate, seed, model.clip, described, datasets_part("dataset", {dataset.name}),
                datasets_part("train_dataset", fold.train), StageSpec::part("inputs", std::move(inputs))},
               variant.settings.resources);
  }

  // Copies files: one process, whatever training takes.
  void add_export(const Fold& fold, const Variant& variant, const ModelParts& model, const std::string& train) {
    ResourceSettings resources = variant.settings.resources;
    resources.ranks = 1;
    resources.gpus = 0;
    add(StageKind::exported, "export " + trained_on(fold),
        {part("formats", experiment_->export_formats), model.clip, StageSpec::part("inputs", {{"train", train}})},
        resources);
  }

  static std::string trained_on(const Fold& fold) {
    std::string names;
    for (const auto& name : fold.train) names += (names.empty() ? "" : "+") + name;
    return names;
  }

  std::string add(StageKind kind, const std::string& label, std::vector<Part> parts,
                  const ResourceSettings& resources) {
    parts.push_back(part("kind", to_string(kind)));
    parts.push_back(part("format", 1));
    StageSpec spec(std::move(parts));
    std::string key = spec.key();
    if (!index_.emplace(key, plan_.stages.size()).second) return key;
    std::vector<std::string> inputs;
    for (const auto& [name, input] : spec.at("inputs").items()) inputs.push_back(input);
    plan_.stages.push_back({key, kind, label, std::move(inputs), resources, std::move(spec)});
    return key;
  }

  const Experiment* experiment_ = nullptr;  // the one whose trials are being added
  Facts facts_;
  Plan plan_;
  std::unordered_map<std::string, std::size_t> index_;
  std::unordered_map<std::string, std::string> known_;  // features, boxes and trainings: what they are made of -> key
  std::unordered_map<std::string, Part> parts_;
  std::unordered_map<std::string, Part> sections_;
  std::unordered_map<std::string, Part> test_descriptions_;
  std::unordered_map<std::size_t, ModelParts> models_;
  std::map<std::string, std::string> digests_;
};

constexpr int plan_format = 2;

// Keys become paths.
std::string checked_key(const Json& json, const fs::path& path) {
  const auto key = json.get<std::string>();
  if (key.size() == 16 && key.find_first_not_of("0123456789abcdef") == std::string::npos) return key;
  throw Error("scheduler: " + path.string(), "found " + json.dump() + ", expected a stage's key of 16 hex digits");
}

}  // namespace

const PlannedStage& Plan::stage(const std::string& key) const {
  for (const auto& candidate : stages)
    if (candidate.key == key) return candidate;
  throw Error("scheduler: plan of " + name, "found no stage " + key);
}

int Plan::max_concurrent() const {
  int least = 0;
  for (const auto& [owner, search] : searches)
    if (search.max_concurrent > 0) least = least == 0 ? search.max_concurrent : std::min(least, search.max_concurrent);
  return least;
}

std::shared_ptr<const StageSpec::Part> StageSpec::part(const std::string& name, Json value) {
  std::string key_text = canonical_json(key_view({{name, value}}).at(name));
  return std::make_shared<const Part>(Part{name, std::move(value), std::move(key_text)});
}

StageSpec::StageSpec(std::vector<std::shared_ptr<const Part>> parts) : parts_(std::move(parts)) {
  std::sort(parts_.begin(), parts_.end(), [](const auto& a, const auto& b) { return a->name < b->name; });
}

Json StageSpec::json() const {
  Json json = Json::object();
  for (const auto& one : parts_) json[one->name] = one->value;
  return json;
}

std::string StageSpec::key() const {
  Sha256 hash;  // over what canonical_json(key_view(json())) would be, without making it
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    hash.update((i == 0 ? "{\"" : ",\"") + parts_[i]->name + "\":");
    hash.update(parts_[i]->key_text);
  }
  hash.update("}");
  return hash.hex().substr(0, 16);
}

const Json& StageSpec::at(const std::string& name) const {
  for (const auto& one : parts_)
    if (one->name == name) return one->value;
  throw Error("scheduler: spec of a stage", "found no " + name);
}

std::string plain_text(const Json& axis_value) {
  return axis_value.is_string() ? axis_value.get<std::string>() : axis_value.dump();
}

std::string short_key(const std::string& dotted_key) { return dotted_key.substr(dotted_key.rfind('.') + 1); }

std::string describe_axis_values(const std::map<std::string, Json>& axis_values) {
  std::string text;
  if (const auto name = axis_values.find("name"); name != axis_values.end()) {
    text = plain_text(name->second);
    if (const auto seed = axis_values.find("train.seed"); seed != axis_values.end())
      text += ", seed=" + plain_text(seed->second);
    return text;
  }
  for (const auto& [key, value] : axis_values)
    text += (text.empty() ? "" : ", ") + short_key(key) + "=" + plain_text(value);
  return text;
}

Plan make_plan(const Experiment& experiment, const Workspace& workspace) { return Planner(workspace).make(experiment); }

// Rows in place of objects, and positions in place of keys: 100,000 stages are read in a fraction of a second.
void save_plan(const Plan& plan, const Workspace& workspace) {
  Json json = {
      {"format", plan_format},
      {"name", plan.name},
      {"experiment", plan.experiment},
      {"tables", Json::array()},
      {"searches", Json::object()},
      {"max_concurrent", plan.max_concurrent()},
      {"resources", Json::array()},
      {"stage_columns", {"key", "kind", "label", "inputs (positions of stages)", "position in resources"}},
      {"stages", Json::array()},
      {"trial_columns",
       {"experiment", "fold", "axis_values", "train (position of a stage)", "evaluate (likewise)", "search_group"}},
      {"trials", Json::array()}};
  for (const auto& table : plan.tables) json["tables"].push_back(to_json(table));
  for (const auto& [experiment, search] : plan.searches) json["searches"][experiment] = to_json(search);
  std::unordered_map<std::string_view, std::size_t> position;
  std::unordered_map<std::string, std::size_t> resources;
  for (const auto& stage : plan.stages) {
    workspace.create_stage(stage.key, stage.spec.json());
    Json inputs = Json::array();
    for (const auto& input : stage.inputs) inputs.push_back(position.at(input));
    position.emplace(stage.key, position.size());
    Json wanted = to_json(stage.resources);
    const auto [known, first] = resources.emplace(wanted.dump(), resources.size());
    if (first) json["resources"].push_back(std::move(wanted));
    json["stages"].push_back({stage.key, to_string(stage.kind), stage.label, std::move(inputs), known->second});
  }
  for (const auto& trial : plan.trials)
    json["trials"].push_back({trial.experiment, trial.fold, trial.axis_values, position.at(trial.train),
                              position.at(trial.evaluate), trial.search_group});
  fs::create_directories(workspace.experiment_folder(plan.name));
  write_file_atomically(workspace.experiment_folder(plan.name) / "plan.json", json.dump() + "\n");
}

Plan load_plan(const Workspace& workspace, const std::string& name) {
  const fs::path path = workspace.experiment_folder(name) / "plan.json";
  std::error_code error;
  if (!is_plain_name(name) || !fs::exists(path, error)) {
    throw UsageError("scheduler: experiment " + name, "found none of this name in " + workspace.root().string() +
                                                          ", expected one that filo run has planned" +
                                                          did_you_mean(name, experiment_names(workspace)));
  }
  const Json json = read_json(path);
  try {
    if (json.at("format") != plan_format)
      throw Error("scheduler: " + path.string(), "found format " + json.at("format").dump() + ", expected " +
                                                     std::to_string(plan_format) + "; filo run writes it anew");
    Plan plan{.name = json.at("name"),
              .experiment = json.at("experiment"),
              .tables = {},
              .searches = {},
              .stages = {},
              .trials = {}};
    for (const auto& table : json.at("tables")) plan.tables.push_back(table_from_json(table));
    for (const auto& [experiment, search] : json.at("searches").items())
      plan.searches[experiment] = search_from_json(search);
    std::vector<ResourceSettings> resources;
    for (const auto& wanted : json.at("resources"))
      resources.push_back(resource_settings_from_json(wanted, path.string()));
    const auto stage_at = [&](const Json& position) -> const std::string& {
      const auto place = position.get<std::size_t>();
      if (place < plan.stages.size()) return plan.stages[place].key;
      throw Error("scheduler: " + path.string(), "found a stage's position " + position.dump() + ", expected one of " +
                                                     std::to_string(plan.stages.size()) + " before it");
    };
    plan.stages.reserve(json.at("stages").size());
    for (const auto& row : json.at("stages")) {
      std::vector<std::string> inputs;
      inputs.reserve(row.at(3).size());
      for (const auto& input : row.at(3)) inputs.push_back(stage_at(input));
      const auto wanted = row.at(4).get<std::size_t>();
      if (wanted >= resources.size())
        throw Error("scheduler: " + path.string(),
                    "found resources " + row.at(4).dump() + ", expected one of " + std::to_string(resources.size()));
      plan.stages.push_back({checked_key(row.at(0), path), stage_kind(row.at(1).get_ref<const std::string&>()),
                             row.at(2), std::move(inputs), resources[wanted], StageSpec()});
    }
    plan.trials.reserve(json.at("trials").size());
    for (const auto& row : json.at("trials"))
      plan.trials.push_back({row.at(0), row.at(1), row.at(2).get<std::map<std::string, Json>>(), stage_at(row.at(3)),
                             stage_at(row.at(4)), row.at(5)});
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
