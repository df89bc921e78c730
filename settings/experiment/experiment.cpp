#include "settings/experiment/experiment.hpp"

#include <set>

#include "base/error.hpp"
#include "base/installed.hpp"
#include "settings/experiment/axes.hpp"
#include "settings/experiment/conditions.hpp"
#include "settings/experiment/file.hpp"
#include "settings/experiment/folds.hpp"
#include "settings/experiment/grid.hpp"
#include "settings/experiment/schema.hpp"
#include "settings/experiment/search.hpp"
#include "settings/experiment/tables.hpp"

namespace filo {
namespace {

std::vector<std::string> read_export(const SourceValue& experiment, const Json& resolved, Problems& problems) {
  if (const SourceValue* written = experiment.find("export")) each_value_once(written->items, "export", problems);
  return resolved.at("export").get<std::vector<std::string>>();
}

// `written`: the file as its schema resolves it. What readers made of a part takes that part's place.
Json resolved_json(Json written, const Experiment& experiment, const Json& search) {
  written.erase("base");  // its settings stand here now
  written["folds"] = folds_json(experiment.folds, experiment.data);
  written["exclude"] = Json::array();
  for (const auto& condition : experiment.exclude)
    if (!condition.values.empty()) written["exclude"].push_back(condition.values);
  written["search"] = search;
  written["tables"] = Json::array();
  for (const auto& table : experiment.tables) {
    Json json = to_json(table);
    json.erase("experiment");
    json.erase("experiment_note");
    written["tables"].push_back(std::move(json));
  }
  return written;
}

ExperimentSettings settings_of(const Json& resolved) {
  return {model_settings_of(resolved.at("model")), train_settings_of(resolved.at("train")),
          evaluate_settings_of(resolved.at("evaluate")), resource_settings_of(resolved.at("resources"))};
}

// All of one file but the experiments that it includes. Each part is checked against those before it.
Experiment read_experiment(const ExperimentFile& file) {
  Problems problems(file.files);
  const SourceValue& source = file.source;
  const Profile profile = profile_of(source.find("model"));
  const Json resolved = resolve(experiment_schema(profile, file.has_own_trials), source, "", problems);
  problems.throw_if_any();

  Experiment experiment;
  experiment.name = resolved.at("name");
  experiment.path = file.path;
  experiment.files = file.files;
  experiment.source = source;
  experiment.resolved = resolved;
  if (!file.has_own_trials) return experiment;

  experiment.base = settings_of(resolved);
  experiment.export_formats = read_export(source, resolved, problems);
  const Roles roles = read_roles(source);
  experiment.data = roles.datasets;
  experiment.folds = read_folds(source, roles, problems);

  AxisKeys keys(dotted_keys(settings_schema(profile)));
  Grid& grid = experiment.grid;
  grid.groups = read_axes(source, keys, problems);
  grid.points = read_points(source, keys, problems);
  const auto search = read_search(source, experiment.base.train, keys, problems);
  if (search) experiment.search = search->settings;
  if (search && problems.empty()) grid.repeats.push_back(draws_group(search->settings));
  for (auto& seeds : read_seeds(source, grid.points, keys, problems)) grid.repeats.push_back(std::move(seeds));
  problems.throw_if_any();

  const VaryingValues values(experiment.folds, grid, resolved);
  experiment.exclude = read_excludes(source, values, problems);
  experiment.tables = read_tables(source, resolved, values, problems);
  problems.throw_if_any();
  for (auto& condition : read_base_excludes(file.base_excludes, values, keys, resolved, problems))
    experiment.exclude.push_back(std::move(condition));
  problems.throw_if_any();

  experiment.resolved = resolved_json(resolved, experiment, search ? search->resolved : Json());
  return experiment;
}

// Follows `include:`.
class Loader {
 public:
  explicit Loader(const LoadOptions& options) : options_(options) {}

  Experiment load(const std::filesystem::path& path) {
    open_.push_back(canonical_path(path));
    const ExperimentFile file = read_experiment_file(path, options_.base, open_);
    Experiment experiment = read_experiment(file);
    for (const auto& included : file.included) include(experiment, included);
    open_.pop_back();
    return experiment;
  }

 private:
  void include(Experiment& experiment, const std::filesystem::path& file) {
    if (!seen_.insert(canonical_path(file)).second) return;
    Experiment part = load(file);
    if (!names_.insert(part.name).second || part.name == experiment.name)
      throw UsageError("settings: " + part.path + ": name", "found " + in_quotes(part.name) +
                                                                ", which another experiment of " + experiment.path +
                                                                " has too, expected names that differ");
    std::vector<Experiment> nested = std::move(part.included);
    part.included.clear();
    experiment.included.push_back(std::move(part));
    for (auto& one : nested) experiment.included.push_back(std::move(one));
  }

  const LoadOptions& options_;
  std::vector<std::string> open_;  // the files being read, outermost first
  std::set<std::string> seen_, names_;
};

}  // namespace

Experiment load_experiment(const std::string& yaml_path, const LoadOptions& options) {
  Experiment experiment = Loader(options).load(shipped_file(yaml_path));
  if (experiment.has_own_trials()) grid_size(experiment);
  for (const auto& part : experiment.included)
    if (part.has_own_trials()) grid_size(part);
  return experiment;
}

Json to_json(const ExperimentSettings& settings) {
  return {{"model", to_json(settings.model)},
          {"train", to_json(settings.train)},
          {"evaluate", to_json(settings.evaluate)},
          {"resources", to_json(settings.resources)}};
}

Json to_json(const Experiment& experiment) {
  Json json = experiment.resolved;
  for (const auto& part : experiment.included) json["included"].push_back(to_json(part));
  return json;
}

std::string to_yaml(const Experiment& experiment) {
  std::string text =
      to_yaml(experiment_schema(experiment.base.model.profile, experiment.has_own_trials()), experiment.resolved);
  for (const auto& part : experiment.included) text += "---\n# included: " + part.path + "\n" + to_yaml(part);
  return text;
}

}  // namespace filo
