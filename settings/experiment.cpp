#include "settings/experiment.hpp"

#include <algorithm>
#include <set>

#include "base/error.hpp"
#include "settings/settings_schema.hpp"

namespace filo {
namespace {

constexpr std::size_t most_trials = 1'000'000;
const std::vector<std::string> known_metrics = {"image_auroc", "image_ap",     "image_f1_max", "pixel_auroc",
                                                "pixel_ap",    "pixel_f1_max", "aupro"};

Schema plain_name(std::optional<std::string> fallback) {
  Schema schema = Schema::text(std::move(fallback));
  schema.check = [](const Json& text) -> std::optional<std::string> {
    if (is_plain_name(text.get<std::string>())) return std::nullopt;
    return "a name of letters, digits, '.', '_' and '-' (at most 100, not beginning with '.' or '-')";
  };
  return schema;
}

Schema model_with_clip(Profile profile) {
  Schema schema = model_schema(profile);
  for (auto& field : schema.fields)
    if (field.name == "clip") {
      field.schema.fallback.reset();
      field.schema.check = [](const Json& text) -> std::optional<std::string> {
        if (text == "") return "the path of a Hugging Face CLIP folder";
        return std::nullopt;
      };
    }
  return schema;
}

Schema settings_schema(Profile profile) {
  return Schema::record({{"model", model_with_clip(profile)},
                         {"train", train_schema()},
                         {"evaluate", evaluate_schema()},
                         {"resources", resource_schema()}});
}

Schema experiment_schema(Profile profile) {
  const Schema fold = Schema::record(
      {{"train", Schema::text(std::nullopt)}, {"test", Schema::text(std::nullopt)}, {"name", Schema::text("")}});
  Schema metric = Schema::text(std::nullopt);
  metric.choices = known_metrics;
  const Schema table = Schema::record({{"title", Schema::text("")},
                                       {"rows", Schema::text("")},
                                       {"columns", Schema::text("fold")},
                                       {"metrics", Schema::list(metric, Json({"image_auroc", "pixel_auroc"}), 1)}});
  Schema schema = Schema::record({
      {"name", plain_name(std::nullopt)},
      {"data", Schema::map(plain_name(std::nullopt), std::nullopt, 1)},
      {"folds", Schema::list(fold, std::nullopt, 1)},
  });
  for (auto& section : settings_schema(profile).fields) schema.fields.push_back(section);
  schema.fields.push_back(
      {"axes", Schema::map(Schema::list(Schema::any(std::nullopt), std::nullopt, 1), Json::object())});
  schema.fields.push_back({"seeds", Schema::list(Schema::integer(std::nullopt, 0, 1e18), Json::array())});
  schema.fields.push_back({"tables", Schema::list(table, Json::array())});
  return schema;
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates) {
  const std::string near = nearest(word, candidates);
  return near.empty() ? "" : "; did you mean " + near + "?";
}

const SourceValue& at(const SourceValue& source, const std::string& list, std::size_t index) {
  return source.find(list)->items[index];
}

int line_of(const SourceValue& source, const std::string& name) {
  const SourceValue* value = source.find(name);
  return value == nullptr ? source.line : value->line;
}

std::vector<Fold> read_folds(const Json& resolved, const SourceValue& source, Problems& problems) {
  const Json& data = resolved.at("data");
  std::vector<std::string> roles;
  for (const auto& entry : data.items()) roles.push_back(entry.key());
  std::vector<Fold> folds;
  std::set<std::string> names;
  std::set<std::pair<std::string, std::string>> pairs;
  for (std::size_t i = 0; i < resolved.at("folds").size(); ++i) {
    const Json& entry = resolved.at("folds")[i];
    const SourceValue& written = at(source, "folds", i);
    const std::string key = "folds[" + std::to_string(i) + "]";
    bool known = true;
    for (const char* side : {"train", "test"}) {
      const std::string role = entry.at(side);
      if (data.contains(role)) continue;
      known = false;
      problems.add(line_of(written, side), key + "." + side,
                   "found the role \"" + role + "\", expected one that `data:` names" + did_you_mean(role, roles));
    }
    if (!known) continue;
    const std::string train = entry.at("train"), test = entry.at("test");
    Fold fold{entry.at("name"), data.at(train), data.at(test)};
    if (fold.name.empty()) fold.name = train + "->" + test;
    if (fold.train == fold.test)
      problems.add(written.line, key,
                   "found the data set \"" + fold.train +
                       "\" in both train and test, expected two data sets: what is tested must be unseen");
    if (!pairs.insert({fold.train, fold.test}).second)
      problems.add(written.line, key, "found this pair of data sets twice, expected each fold once");
    else if (!names.insert(fold.name).second)
      problems.add(written.line, key, "found the name \"" + fold.name + "\" twice, expected names that differ");
    folds.push_back(std::move(fold));
  }
  return folds;
}

bool repeats(const std::vector<SourceValue>& values, std::size_t index) {
  for (std::size_t i = 0; i < index; ++i)
    if (to_json(values[i]) == to_json(values[index])) return true;
  return false;
}

std::vector<Axis> read_axes(const SourceValue& source, Profile profile, Problems& problems) {
  const std::vector<std::string> known = dotted_keys(settings_schema(profile));
  std::vector<Axis> axes;
  const auto add = [&](const std::string& key, const std::string& shown, const SourceValue& values) {
    for (std::size_t i = 0; i < values.items.size(); ++i)
      if (repeats(values.items, i))
        problems.add(values.items[i].line, shown,
                     "found " + describe(values.items[i]) + " twice, expected each value once");
    axes.push_back({key, values.items});
  };
  if (const SourceValue* written = source.find("axes"))
    for (const auto& field : written->fields) {
      if (std::find(known.begin(), known.end(), field.name) == known.end())
        problems.add(field.line, "axes." + field.name,
                     "found an unknown axis, expected the dotted key of a setting" + did_you_mean(field.name, known));
      else
        add(field.name, "axes." + field.name, field.value);
    }
  const SourceValue* seeds = source.find("seeds");
  if (seeds == nullptr || seeds->items.empty()) return axes;
  for (const auto& axis : axes)
    if (axis.key == "train.seed")
      problems.add(seeds->line, "seeds", "found both seeds and an axis train.seed, expected one of them");
  add("train.seed", "seeds", *seeds);
  return axes;
}

std::vector<Table> read_tables(const Json& resolved, const SourceValue& source, const std::vector<Axis>& axes,
                               Problems& problems) {
  std::vector<std::string> known = {"fold"};
  for (const auto& axis : axes) known.push_back(axis.key);
  std::vector<Table> tables;
  for (std::size_t i = 0; i < resolved.at("tables").size(); ++i) {
    const Json& entry = resolved.at("tables")[i];
    const SourceValue& written = at(source, "tables", i);
    for (const char* side : {"rows", "columns"}) {
      const std::string key = entry.at(side);
      if (key.empty() || std::find(known.begin(), known.end(), key) != known.end()) continue;
      problems.add(line_of(written, side), "tables[" + std::to_string(i) + "]." + side,
                   "found \"" + key + "\", expected fold or the key of an axis" + did_you_mean(key, known));
    }
    if (entry.at("rows") == entry.at("columns"))
      problems.add(written.line, "tables[" + std::to_string(i) + "]",
                   "found the same rows and columns, expected two different ones");
    tables.push_back({entry.at("title"), entry.at("rows"), entry.at("columns"), entry.at("metrics")});
  }
  return tables;
}

ExperimentSettings settings_of(const Json& resolved) {
  return {model_settings_of(resolved.at("model")), train_settings_of(resolved.at("train")),
          evaluate_settings_of(resolved.at("evaluate")), resource_settings_of(resolved.at("resources"))};
}

// The sections that settings_schema() knows, of the file.
SourceValue settings_part(const SourceValue& source) {
  SourceValue part{.kind = SourceValue::Kind::map, .line = source.line};
  for (const auto& field : source.fields)
    if (field.name == "model" || field.name == "train" || field.name == "evaluate" || field.name == "resources")
      part.fields.push_back(field);
  return part;
}

std::size_t count_trials(const Experiment& experiment) {
  std::size_t trials = experiment.folds.size();
  for (const auto& axis : experiment.axes) {
    trials *= axis.values.size();
    if (trials > most_trials)
      throw UsageError("settings: " + experiment.path + ": axes",
                       "found more than " + std::to_string(most_trials) + " trials, expected at most that many");
  }
  return trials;
}

}  // namespace

bool is_plain_name(const std::string& name) {
  if (name.empty() || name.size() > 100 || name.front() == '.' || name.front() == '-') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
}

Experiment load_experiment(const std::string& yaml_path) {
  Experiment experiment;
  experiment.path = yaml_path;
  experiment.source = read_yaml(yaml_path);
  const SourceValue& source = experiment.source;
  if (source.kind != SourceValue::Kind::map)
    throw UsageError("settings: " + yaml_path, "found " + describe(source) + ", expected an experiment: a map of keys");
  const Profile profile = profile_of(source.find("model"));
  Problems problems(yaml_path);
  const Json resolved = resolve(experiment_schema(profile), source, "", problems);
  problems.throw_if_any();

  experiment.name = resolved.at("name");
  experiment.data = resolved.at("data").get<std::map<std::string, std::string>>();
  experiment.folds = read_folds(resolved, source, problems);
  experiment.base = settings_of(resolved);
  experiment.axes = read_axes(source, profile, problems);
  experiment.tables = read_tables(resolved, source, experiment.axes, problems);
  problems.throw_if_any();
  count_trials(experiment);
  return experiment;
}

std::vector<Variant> expand(const Experiment& experiment) {
  const std::size_t variants = count_trials(experiment) / experiment.folds.size();
  const Schema schemas[] = {settings_schema(Profile::paper), settings_schema(Profile::filo_release)};
  const SourceValue base = settings_part(experiment.source);
  std::vector<Variant> expanded;
  expanded.reserve(variants);
  for (std::size_t index = 0; index < variants; ++index) {
    Variant variant;
    SourceValue source = base;
    std::size_t rest = index;
    for (auto axis = experiment.axes.rbegin(); axis != experiment.axes.rend(); ++axis) {
      const SourceValue& value = axis->values[rest % axis->values.size()];
      rest /= axis->values.size();
      variant.axis_values[axis->key] = to_json(value);
      source.set_dotted(axis->key, value);
    }
    Problems problems(experiment.path);
    const bool release = profile_of(source.find("model")) == Profile::filo_release;
    const Json resolved = resolve(schemas[release ? 1 : 0], source, "", problems);
    problems.throw_if_any();
    variant.settings = settings_of(resolved);
    expanded.push_back(std::move(variant));
  }
  return expanded;
}

Json to_json(const ExperimentSettings& settings) {
  return {{"model", to_json(settings.model)},
          {"train", to_json(settings.train)},
          {"evaluate", to_json(settings.evaluate)},
          {"resources", to_json(settings.resources)}};
}

Json to_json(const Experiment& experiment) {
  Json json = to_json(experiment.base);
  json["name"] = experiment.name;
  json["data"] = experiment.data;
  std::map<std::string, std::string> role_of;
  for (const auto& [role, dataset] : experiment.data) role_of[dataset] = role;
  json["folds"] = Json::array();
  for (const auto& fold : experiment.folds)
    json["folds"].push_back({{"name", fold.name}, {"train", role_of[fold.train]}, {"test", role_of[fold.test]}});
  json["axes"] = Json::object();
  for (const auto& axis : experiment.axes) {
    if (axis.key == "train.seed" && experiment.source.find("seeds") != nullptr) continue;
    for (const auto& value : axis.values) json["axes"][axis.key].push_back(to_json(value));
  }
  const SourceValue* seeds = experiment.source.find("seeds");
  json["seeds"] = seeds == nullptr || seeds->is_absent() ? Json::array() : to_json(*seeds);
  json["tables"] = Json::array();
  for (const auto& table : experiment.tables)
    json["tables"].push_back(
        {{"title", table.title}, {"rows", table.rows}, {"columns", table.columns}, {"metrics", table.metrics}});
  return json;
}

std::string to_yaml(const Experiment& experiment) {
  return to_yaml(experiment_schema(experiment.base.model.profile), to_json(experiment));
}

}  // namespace filo
