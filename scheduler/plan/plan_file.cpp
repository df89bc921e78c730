#include "scheduler/plan/plan_file.hpp"

#include <algorithm>
#include <unordered_map>

#include "base/error.hpp"
#include "base/progress.hpp"
#include "base/text.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
constexpr int plan_format = 2;

// What may not be looked at is there: whoever reads it says so.
bool there_or_hidden(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error) || error;
}

// Keys become paths.
std::string checked_key(const Json& json, const fs::path& path) {
  const auto key = json.get<std::string>();
  if (is_stage_key(key)) return key;
  throw Error("scheduler: " + path.string(), "found " + json.dump() + ", expected a stage's key of 16 hex digits");
}

const std::string& key_at(const Json& position, const std::vector<PlannedStage>& stages, const fs::path& path) {
  const auto place = position.get<std::size_t>();
  if (place < stages.size()) return stages[place].key;
  throw Error("scheduler: " + path.string(), "found a stage's position " + position.dump() + ", expected one of " +
                                                 std::to_string(stages.size()) + " before it");
}

std::vector<PlannedStage> stages_from(const Json& json, const fs::path& path) {
  std::vector<ResourceSettings> resources;
  for (const auto& wanted : json.at("resources"))
    resources.push_back(resource_settings_from_json(wanted, path.string()));
  std::vector<PlannedStage> stages;
  stages.reserve(json.at("stages").size());
  for (const auto& row : json.at("stages")) {
    std::vector<std::string> inputs;
    inputs.reserve(row.at(3).size());
    for (const auto& input : row.at(3)) inputs.push_back(key_at(input, stages, path));
    const auto wanted = row.at(4).get<std::size_t>();
    if (wanted >= resources.size())
      throw Error("scheduler: " + path.string(),
                  "found resources " + row.at(4).dump() + ", expected one of " + std::to_string(resources.size()));
    stages.push_back({checked_key(row.at(0), path), stage_kind(row.at(1).get_ref<const std::string&>()), row.at(2),
                      std::move(inputs), resources[wanted], StageSpec()});
  }
  return stages;
}

}  // namespace

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
      {"trials", Json::array()},
      {"shared_images", Json::array()}};
  for (const auto& table : plan.tables) json["tables"].push_back(to_json(table));
  for (const auto& [experiment, search] : plan.searches) json["searches"][experiment] = to_json(search);
  std::unordered_map<std::string_view, std::size_t> position;
  std::unordered_map<std::string, std::size_t> resources;
  Progress progress("writing the stages of " + plan.name, plan.stages.size());
  for (const auto& stage : plan.stages) {
    progress.at(position.size());
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
  for (const auto& shared : plan.shared_images)
    json["shared_images"].push_back({shared.fold, shared.train, shared.test, shared.images});
  fs::create_directories(workspace.experiment_folder(plan.name));
  write_file_atomically(workspace.plan_file(plan.name), json.dump() + "\n");
}

Plan load_plan(const Workspace& workspace, const std::string& name) {
  const fs::path path = workspace.plan_file(name);
  if (!is_plain_name(name) || !there_or_hidden(path)) {
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
              .stages = stages_from(json, path),
              .trials = {},
              .shared_images = {}};
    for (const auto& table : json.at("tables")) plan.tables.push_back(table_from_json(table));
    for (const auto& [experiment, search] : json.at("searches").items())
      plan.searches[experiment] = search_from_json(search);
    plan.trials.reserve(json.at("trials").size());
    for (const auto& row : json.at("trials"))
      plan.trials.push_back({row.at(0), row.at(1), row.at(2).get<std::map<std::string, Json>>(),
                             key_at(row.at(3), plan.stages, path), key_at(row.at(4), plan.stages, path), row.at(5)});
    for (const auto& row : json.value("shared_images", Json::array()))  // plans of before have none
      plan.shared_images.push_back({row.at(0), row.at(1), row.at(2), row.at(3)});
    return plan;
  } catch (const Json::exception& problem) {
    throw Error("scheduler: " + path.string(),
                std::string("found a plan of another form (") + told(problem) + "); filo run writes it anew");
  }
}

std::vector<std::string> experiment_names(const Workspace& workspace) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(workspace.experiments_folder(), error))
    if (const std::string name = entry.path().filename().string(); there_or_hidden(workspace.plan_file(name)))
      names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> experiments_with_dataset(const Workspace& workspace, const std::string& dataset) {
  const auto names_it = [&](const Json& experiment) {
    const Json data = experiment.is_object() ? experiment.value("data", Json::object()) : Json::object();
    return std::any_of(data.begin(), data.end(), [&](const Json& name) { return name == dataset; });
  };
  std::vector<std::string> found = experiment_names(workspace);
  std::erase_if(found, [&](const std::string& name) {
    const Json plan = read_json(workspace.plan_file(name));
    const Json experiment = plan.is_object() ? plan.value("experiment", Json::object()) : Json::object();
    const Json included = experiment.is_object() ? experiment.value("included", Json::array()) : Json::array();
    return !names_it(experiment) && std::none_of(included.begin(), included.end(), names_it);
  });
  return found;
}

}  // namespace filo
