#include "settings/experiment/experiment.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>
#include <unordered_map>

#include "base/error.hpp"
#include "base/random.hpp"
#include "base/text.hpp"
#include "settings/metrics.hpp"
#include "settings/schema.hpp"
#include "settings/yaml.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t most_trials = 1'000'000;
const std::vector<std::string> sections = {"model", "train", "evaluate", "resources"};
const std::vector<std::string> base_keys = {"base",      "data",  "folds",   "model",  "train", "evaluate",
                                            "resources", "seeds", "exclude", "export", "note"};

Schema model_with_clip(Profile profile) {
  Schema schema = model_schema(profile);
  for (auto& field : schema.fields)
    if (field.name == "clip")
      field.schema = Schema::text(std::nullopt)
                         .where([](const Json& text) { return text != ""; }, "the path of a Hugging Face CLIP folder");
  return schema;
}

Schema settings_schema(Profile profile) {
  return Schema::record({{"model", model_with_clip(profile)},
                         {"train", train_schema()},
                         {"evaluate", evaluate_schema()},
                         {"resources", resource_schema()}});
}

Schema table_schema() {
  Schema metric = Schema::text(std::nullopt);
  metric.choices = metric_names();
  return Schema::record({{"title", Schema::text("")},
                         {"rows", Schema::any("")},
                         {"columns", Schema::text("fold")},
                         {"metrics", Schema::list(metric, Json(main_metrics()), 1)},
                         {"paper", Schema::any(Json::object())},
                         {"note", Schema::text("")}});
}

Schema search_schema() {
  return Schema::record(
      {{"method", Schema::choice("random", {"random", "asha"})},
       {"space", Schema::map(Schema::map(Schema::any(std::nullopt), std::nullopt, 1), std::nullopt, 1)},
       {"metric", Schema::text("loss")},
       {"mode", Schema::choice("min", {"min", "max"})},
       {"max_trials", Schema::integer(std::nullopt, 1, most_trials)},
       {"max_concurrent", Schema::integer(0, 0, 1e6)},
       {"seed", Schema::integer(0, 0, 1e18)},
       {"asha", Schema::record({{"reduction", Schema::integer(3, 2, 1000)},
                                {"min", Schema::integer(1, 1, 1e6)},
                                {"max", Schema::integer(0, 0, 1e6)},
                                {"unit", Schema::choice("epoch", {"epoch", "step"})}})}});
}

Schema experiment_schema(Profile profile, bool own_trials) {
  Schema schema = Schema::record({{"name", Schema::plain_name()}});
  const Schema include = Schema::list(Schema::any(std::nullopt), Json::array());
  if (!own_trials) {
    schema.fields.push_back({"include", include});
    return schema;
  }
  schema.fields.push_back({"base", Schema::text("")});
  schema.fields.push_back({"note", Schema::text("")});
  schema.fields.push_back({"data", Schema::map(Schema::plain_name(), std::nullopt, 1)});
  schema.fields.push_back({"folds", Schema::any(std::nullopt)});
  for (auto& section : settings_schema(profile).fields) schema.fields.push_back(section);
  const Schema values = Schema::list(Schema::any(std::nullopt), std::nullopt, 1);
  schema.fields.push_back({"axes", Schema::map(values, Json::object())});
  schema.fields.push_back({"zip", Schema::map(values, Json::object())});
  schema.fields.push_back({"include", include});
  schema.fields.push_back(
      {"exclude", Schema::list(Schema::map(Schema::any(std::nullopt), std::nullopt, 1), Json::array())});
  schema.fields.push_back({"seeds", Schema::list(Schema::integer(std::nullopt, 0, 1e18), Json::array())});
  Schema format = Schema::text(std::nullopt);
  format.choices = {"bundle"};
  schema.fields.push_back({"export", Schema::list(format, Json::array())});
  schema.fields.push_back({"search", Schema::any(Json())});
  schema.fields.push_back({"tables", Schema::list(table_schema(), Json::array())});
  return schema;
}

// How a value stands in the heads of rows and columns.
std::string label_of(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

const SourceValue& at(const SourceValue& source, const std::string& list, std::size_t index) {
  return source.find(list)->items[index];
}

// "model.prompts.filter" -> 0 ("model").
std::size_t section_of(const std::string& key) {
  const auto found = std::find(sections.begin(), sections.end(), key.substr(0, key.find('.')));
  return static_cast<std::size_t>(found - sections.begin());
}

// Everything of an experiment but its included files; a class, since each part is checked against the earlier ones.
class Reader {
 public:
  explicit Reader(Experiment& experiment)
      : experiment_(experiment), source_(experiment.source), problems_(experiment.files) {}

  void read(bool own_trials) {
    const Profile profile = profile_of(source_.find("model"));
    schema_ = experiment_schema(profile, own_trials);
    resolved_ = resolve(schema_, source_, "", problems_);
    problems_.throw_if_any();
    experiment_.name = resolved_.at("name");
    if (!own_trials) {
      experiment_.resolved = resolved_;
      return;
    }
    experiment_.base = {model_settings_of(resolved_.at("model")), train_settings_of(resolved_.at("train")),
                        evaluate_settings_of(resolved_.at("evaluate")),
                        resource_settings_of(resolved_.at("resources"))};
    read_export();
    known_keys_ = dotted_keys(settings_schema(profile));
    read_data();
    read_folds();
    read_axes();
    read_zip();
    read_points();
    read_search();
    read_seeds();
    problems_.throw_if_any();
    collect_values();
    read_excludes();
    read_tables();
    problems_.throw_if_any();
    experiment_.resolved = resolved();
  }

  void read_export() {
    experiment_.export_formats = resolved_.at("export").get<std::vector<std::string>>();
    if (const SourceValue* written = source_.find("export")) each_value_once(written->items, "export");
  }

  void read_base_excludes(const std::vector<SourceValue>& written) {
    for (const auto& list : written) {
      const Json checked = resolve(Schema::list(Schema::map(Schema::any(std::nullopt), std::nullopt, 1), Json::array()),
                                   list, "exclude", problems_);
      problems_.throw_if_any();
      for (std::size_t i = 0; i < checked.size(); ++i) read_base_exclude(list.items[i], i);
    }
    problems_.throw_if_any();
    experiment_.resolved = resolved();
  }

 private:
  void read_data() {
    for (const auto& field : source_.find("data")->fields) roles_.push_back(field.name);
    experiment_.data = resolved_.at("data").get<std::map<std::string, std::string>>();
  }

  void read_folds() {
    const SourceValue& written = *source_.find("folds");
    if (written.scalar == "leave-one-out") return leave_one_out(written);
    const Schema fold = Schema::record(
        {{"train", Schema::any(std::nullopt)}, {"test", Schema::text(std::nullopt)}, {"name", Schema::text("")}});
    if (written.kind != SourceValue::Kind::list) {
      problems_.add(written, "folds",
                    "found " + describe(written) + ", expected leave-one-out or a list of {train, test, name}");
      return;
    }
    const Json folds = resolve(Schema::list(fold, std::nullopt, 1), written, "folds", problems_);
    problems_.throw_if_any();
    for (std::size_t i = 0; i < folds.size(); ++i)
      read_fold(folds[i], written.items[i], "folds[" + std::to_string(i) + "]");
  }

  void leave_one_out(const SourceValue& written) {
    if (roles_.size() < 2)
      problems_.add(written, "folds", "found leave-one-out with one data set, expected `data:` to name two or more");
    for (const auto& test : roles_) {
      Json train = Json::array();
      for (const auto& role : roles_)
        if (role != test) train.push_back(role);
      read_fold({{"train", train}, {"test", test}, {"name", ""}}, written, "folds");
    }
  }

  // The data set of a role; "" after a complaint.
  std::string dataset_of(const SourceValue& written, const std::string& key, const std::string& role) {
    const auto found = experiment_.data.find(role);
    if (found != experiment_.data.end()) return found->second;
    problems_.add(
        written, key,
        "found the role " + in_quotes(role) + ", expected one that `data:` names" + did_you_mean(role, roles_));
    return "";
  }

  std::vector<std::string> train_roles(const Json& entry, const SourceValue& written, const std::string& key) {
    const Json& train = entry.at("train");
    if (train.is_string()) return {train};
    std::vector<std::string> roles;
    if (train.is_array())
      for (const auto& role : train)
        if (role.is_string()) roles.push_back(role);
    if (roles.empty() || roles.size() != train.size()) {
      problems_.add(written, key + ".train",
                    "found " + train.dump() + ", expected a role of `data:` or a list of such roles");
      return {};
    }
    return roles;
  }

  void read_fold(const Json& entry, const SourceValue& written, const std::string& key) {
    const SourceValue* train = written.find("train");
    const SourceValue* test = written.find("test");
    const std::vector<std::string> roles = train_roles(entry, train == nullptr ? written : *train, key);
    Fold fold{.name = entry.at("name"), .train = {}, .test = {}};
    bool known = !roles.empty();
    std::string roles_text;
    for (const auto& role : roles) {
      fold.train.push_back(dataset_of(train == nullptr ? written : *train, key + ".train", role));
      known = known && !fold.train.back().empty();
      roles_text += (roles_text.empty() ? "" : "+") + role;
    }
    fold.test = dataset_of(test == nullptr ? written : *test, key + ".test", entry.at("test"));
    if (!known || fold.test.empty()) return;
    if (fold.name.empty()) fold.name = roles_text + "->" + entry.at("test").get<std::string>();
    const auto trains_on = [&](const std::string& dataset) {
      return std::count(fold.train.begin(), fold.train.end(), dataset);
    };
    if (trains_on(fold.test) > 0)
      problems_.add(written, key,
                    "found the data set " + in_quotes(fold.test) +
                        " in both train and test, expected two data sets: what is tested must be unseen");
    for (const auto& dataset : fold.train)
      if (trains_on(dataset) > 1) {
        problems_.add(written, key + ".train", "found the data set " + in_quotes(dataset) + " twice, expected it once");
        break;
      }
    for (const auto& other : experiment_.folds) {
      if (other.train == fold.train && other.test == fold.test)
        problems_.add(written, key, "found this pair of data sets twice, expected each fold once");
      else if (other.name == fold.name)
        problems_.add(written, key, "found the name " + in_quotes(fold.name) + " twice, expected names that differ");
    }
    experiment_.folds.push_back(std::move(fold));
  }

  bool known_axis(const SourceValue& place, const std::string& shown, const std::string& key) {
    if (std::find(known_keys_.begin(), known_keys_.end(), key) != known_keys_.end()) return true;
    problems_.add(place, shown,
                  "found an unknown axis, expected the dotted key of a setting" + did_you_mean(key, known_keys_));
    return false;
  }

  // Complains when a key varies in two ways.
  bool varies_once(const SourceValue& place, const std::string& shown, const std::string& key) {
    const auto [known, is_new] = varied_in_.emplace(key, shown);
    if (is_new) return true;
    problems_.add(place, shown, "found " + key + " in " + known->second + " too, expected it in one of them");
    return false;
  }

  void each_value_once(const std::vector<SourceValue>& values, const std::string& shown) {
    for (std::size_t i = 0; i < values.size(); ++i)
      for (std::size_t j = 0; j < i; ++j)
        if (to_json(values[i]) == to_json(values[j])) {
          problems_.add(values[i], shown, "found " + describe(values[i]) + " twice, expected each value once");
          return;
        }
  }

  void read_axes() {
    const SourceValue* written = source_.find("axes");
    if (written == nullptr) return;
    for (const auto& field : written->fields) {
      const std::string shown = "axes." + field.name;
      if (!known_axis(field.place(), shown, field.name) || !varies_once(field.place(), shown, field.name)) continue;
      each_value_once(field.value.items, shown);
      AxisGroup group{.keys = {field.name}, .values = {}};
      for (const auto& value : field.value.items) group.values.push_back({{field.name, value}});
      experiment_.groups.push_back(std::move(group));
    }
  }

  void read_zip() {
    const SourceValue* written = source_.find("zip");
    if (written == nullptr || written->fields.empty()) return;
    AxisGroup group;
    group.values.resize(written->fields[0].value.items.size());
    for (const auto& field : written->fields) {
      const std::string shown = "zip." + field.name;
      if (!known_axis(field.place(), shown, field.name) || !varies_once(field.place(), shown, field.name)) continue;
      const auto& values = field.value.items;
      if (values.size() != group.values.size()) {
        problems_.add(field.place(), shown,
                      "found " + std::to_string(values.size()) + " values, expected " +
                          std::to_string(group.values.size()) + ", as many as " + written->fields[0].name +
                          " has: they vary together");
        continue;
      }
      group.keys.push_back(field.name);
      for (std::size_t i = 0; i < values.size(); ++i) group.values[i].emplace_back(field.name, values[i]);
    }
    experiment_.groups.push_back(std::move(group));
  }

  void read_points() {
    const SourceValue* written = source_.find("include");
    if (written == nullptr) return;
    std::set<std::string> names;
    for (std::size_t i = 0; i < written->items.size(); ++i) {
      const SourceValue& item = written->items[i];
      const std::string shown = "include[" + std::to_string(i) + "]";
      if (item.kind == SourceValue::Kind::scalar && item.scalar.is_string()) continue;  // a file
      if (item.kind != SourceValue::Kind::map) {
        problems_.add(item, shown,
                      "found " + describe(item) + ", expected a point (a map of dotted keys) or an experiment file");
        continue;
      }
      ExtraPoint point{.name = "", .values = {}, .written = item};
      for (const auto& field : item.fields) {
        if (field.name == "name") {
          if (!field.value.scalar.is_string() || field.value.scalar == "")
            problems_.add(field.value, shown + ".name", "found " + describe(field.value) + ", expected text");
          else
            point.name = field.value.scalar;
        } else if (known_axis(field.place(), shown + "." + field.name, field.name)) {
          point.values.emplace_back(field.name, field.value);
        }
      }
      if (!point.name.empty() && !names.insert(point.name).second)
        problems_.add(item, shown, "found the name " + in_quotes(point.name) + " twice, expected names that differ");
      experiment_.points.push_back(std::move(point));
    }
  }

  void read_search() {
    const SourceValue* written = source_.find("search");
    if (written == nullptr || written->is_absent()) return;
    resolved_search_ = resolve(search_schema(), *written, "search", problems_);
    problems_.throw_if_any();
    const Json& json = resolved_search_;
    SearchSettings search;
    search.method = json.at("method") == "asha" ? SearchMethod::asha : SearchMethod::random;
    search.metric = json.at("metric");
    search.maximize = json.at("mode") == "max";
    search.max_trials = json.at("max_trials");
    search.max_concurrent = json.at("max_concurrent");
    search.seed = json.at("seed");
    const Json& asha = json.at("asha");
    search.reduction = asha.at("reduction");
    search.min = asha.at("min");
    search.unit = asha.at("unit");
    search.max = asha.at("max");
    if (search.max == 0 && search.unit == "epoch") search.max = experiment_.base.train.main_epochs;
    resolved_search_["asha"]["max"] = search.max;
    if (search.method == SearchMethod::asha && is_metric(search.metric))
      problems_.add(*written->find("metric"), "search.metric",
                    "found " + search.metric +
                        ", which only an evaluation gives; asha needs a field of training's events, as loss");
    for (const auto& field : written->find("space")->fields) read_dimension(field, search);
    experiment_.search = search;
    if (!problems_.empty()) return;
    AxisGroup group{.keys = {}, .values = search_draws(search)};
    for (const auto& dimension : search.space) group.keys.push_back(dimension.key);
    experiment_.repeats.push_back(std::move(group));
  }

  void read_dimension(const SourceValue::Field& field, SearchSettings& search) {
    const std::string shown = "search.space." + field.name;
    if (!known_axis(field.place(), shown, field.name) || !varies_once(field.place(), shown, field.name)) return;
    const std::vector<std::string> kinds = {"uniform", "log_uniform", "integer", "choice"};
    if (field.value.fields.size() != 1 ||
        std::find(kinds.begin(), kinds.end(), field.value.fields[0].name) == kinds.end()) {
      const std::string found = field.value.fields.empty() ? "" : field.value.fields[0].name;
      problems_.add(field.place(), shown,
                    "found " + describe(field.value) +
                        ", expected one of uniform, log_uniform, integer (each [low, high]) or choice: [...]" +
                        did_you_mean(found, kinds));
      return;
    }
    const auto& [kind, line, value] = field.value.fields[0];
    SearchDimension dimension{.key = field.name, .choices = {}};
    if (kind == "choice") {
      dimension.kind = SearchDimension::Kind::choice;
      if (value.kind != SourceValue::Kind::list || value.items.empty()) {
        problems_.add(value, shown + ".choice",
                      "found " + describe(value) + ", expected a list with at least one item");
        return;
      }
      each_value_once(value.items, shown + ".choice");
      dimension.choices = value.items;
    } else {
      dimension.kind = kind == "uniform"       ? SearchDimension::Kind::uniform
                       : kind == "log_uniform" ? SearchDimension::Kind::log_uniform
                                               : SearchDimension::Kind::integer;
      if (!read_range(value, kind, dimension)) {
        const std::string number = kind == "integer" ? "whole number" : "number";
        problems_.add(value, shown + "." + kind,
                      "found " + describe(value) + ", expected [low, high]: two " + number + "s, low below high" +
                          (kind == "log_uniform" ? " and above 0" : ""));
        return;
      }
    }
    search.space.push_back(std::move(dimension));
  }

  static bool read_range(const SourceValue& value, const std::string& kind, SearchDimension& dimension) {
    if (value.kind != SourceValue::Kind::list || value.items.size() != 2) return false;
    for (const auto& end : value.items) {
      if (kind == "integer" ? !end.scalar.is_number_integer() : !end.scalar.is_number()) return false;
      if (!std::isfinite(end.scalar.get<double>()) || std::abs(end.scalar.get<double>()) > 1e15) return false;
    }
    dimension.low = value.items[0].scalar.get<double>();
    dimension.high = value.items[1].scalar.get<double>();
    return dimension.low < dimension.high && (kind != "log_uniform" || dimension.low > 0);
  }

  void read_seeds() {
    const SourceValue* seeds = source_.find("seeds");
    if (seeds == nullptr || seeds->items.empty()) return;
    if (!varies_once(*seeds, "seeds", "train.seed")) return;
    each_value_once(seeds->items, "seeds");
    AxisGroup group{.keys = {"train.seed"}, .values = {}};
    for (const auto& seed : seeds->items) group.values.push_back({{"train.seed", seed}});
    experiment_.repeats.push_back(std::move(group));
    for (std::size_t i = 0; i < experiment_.points.size(); ++i)
      for (const auto& [key, value] : experiment_.points[i].values)
        if (key == "train.seed")
          problems_.add(value, "include[" + std::to_string(i) + "].train.seed",
                        "found both seeds and train.seed in a point, expected one of them");
  }

  // What each varied key, "fold" and "name" may be.
  void collect_values() {
    for (const auto& fold : experiment_.folds) values_["fold"].emplace_back(fold.name);
    for (const auto& point : experiment_.points)
      if (!point.name.empty()) values_["name"].emplace_back(point.name);
    for (const auto& key : experiment_.varied_keys()) values_[key] = {};
    const auto add = [&](const PointValues& assignment) {
      for (const auto& [key, value] : assignment) {
        auto& list = values_[key];
        if (list.size() > 1000) continue;  // seeds by the thousand: nobody is told the nearest one
        const Json json = to_json(value);
        if (std::find(list.begin(), list.end(), json) == list.end()) list.push_back(json);
      }
    };
    for (const auto* groups : {&experiment_.groups, &experiment_.repeats})
      for (const auto& group : *groups)
        for (const auto& assignment : group.values) add(assignment);
    for (const auto& point : experiment_.points) add(point.values);
    // A point that does not set a key has the value that stands in the file.
    if (!experiment_.points.empty())
      for (auto& [key, list] : values_)
        if (const Json* base = find_dotted(resolved_, key))
          if (std::find(list.begin(), list.end(), *base) == list.end()) list.push_back(*base);
  }

  std::vector<std::string> value_keys() const {
    std::vector<std::string> keys;
    for (const auto& [key, list] : values_) keys.push_back(key);
    return keys;
  }

  std::vector<std::string> labels(const std::string& key) const {
    std::vector<std::string> texts;
    if (const auto found = values_.find(key); found != values_.end())
      for (const auto& value : found->second) texts.push_back(label_of(value));
    return texts;
  }

  Condition read_condition(const SourceValue& written, const std::string& shown) {
    Condition condition{.values = {}, .written = written};
    for (const auto& field : written.fields) {
      const auto known = values_.find(field.name);
      if (known == values_.end()) {
        problems_.add(field.place(), shown + "." + field.name,
                      "found what does not vary here, expected fold, name or the key of an axis" +
                          did_you_mean(field.name, value_keys()));
        continue;
      }
      const Json value = to_json(field.value);
      const auto& list = known->second;
      if (std::find(list.begin(), list.end(), value) == list.end() && list.size() <= 1000)
        problems_.add(field.value, shown + "." + field.name,
                      "found " + describe(field.value) + ", expected one of its values" +
                          did_you_mean(label_of(value), labels(field.name)));
      condition.values[field.name] = value;
    }
    return condition;
  }

  void read_excludes() {
    for (std::size_t i = 0; i < resolved_.at("exclude").size(); ++i)
      experiment_.exclude.push_back(read_condition(at(source_, "exclude", i), "exclude[" + std::to_string(i) + "]"));
  }

  // A base serves several experiments: what does not vary in this one is compared at once, and a condition that cannot
  // hold is left out.
  void read_base_exclude(const SourceValue& written, std::size_t index) {
    Condition condition{.values = {}, .written = written, .may_match_nothing = true};
    for (const auto& field : written.fields) {
      const Json value = to_json(field.value);
      if (const auto known = values_.find(field.name); known != values_.end()) {
        const auto& list = known->second;
        if (std::find(list.begin(), list.end(), value) == list.end() && list.size() <= 1000) return;
        condition.values[field.name] = value;
      } else if (field.name == "name") {
        return;
      } else if (known_axis(field.place(), "exclude[" + std::to_string(index) + "]." + field.name, field.name)) {
        if (*find_dotted(resolved_, field.name) != value) return;
      }
    }
    experiment_.exclude.push_back(std::move(condition));
  }

  void read_tables() {
    for (std::size_t i = 0; i < resolved_.at("tables").size(); ++i) {
      const std::string shown = "tables[" + std::to_string(i) + "]";
      const Json& entry = resolved_.at("tables")[i];
      const SourceValue& written = at(source_, "tables", i);
      Table table{.experiment = experiment_.name,
                  .title = entry.at("title"),
                  .rows = "",
                  .named_rows = {},
                  .columns = entry.at("columns"),
                  .metrics = entry.at("metrics"),
                  .paper = {},
                  .note = entry.at("note"),
                  .experiment_note = resolved_.at("note")};
      check_dimension(written, shown, "columns", table.columns);
      if (entry.at("rows").is_array()) {
        read_named_rows(*written.find("rows"), shown, entry.at("paper"), table);
      } else if (entry.at("rows").is_string()) {
        table.rows = entry.at("rows");
        check_dimension(written, shown, "rows", table.rows);
        if (table.rows == table.columns)
          problems_.add(written, shown, "found the same rows and columns, expected two different ones");
      } else {
        problems_.add(
            *written.find("rows"), shown + ".rows",
            "found " + describe(*written.find("rows")) + ", expected fold, the key of an axis or a list of rows");
      }
      if (const SourceValue* paper = written.find("paper"); paper != nullptr && !paper->is_absent())
        read_paper(*paper, shown + ".paper", table);
      experiment_.tables.push_back(std::move(table));
    }
  }

  void check_dimension(const SourceValue& written, const std::string& shown, const std::string& side,
                       const std::string& key) {
    if (key.empty() || values_.contains(key)) return;
    const SourceValue* place = written.find(side);
    problems_.add(
        place == nullptr ? written : *place, shown + "." + side,
        "found " + in_quotes(key) + ", expected fold, name or the key of an axis" + did_you_mean(key, value_keys()));
  }

  void read_named_rows(const SourceValue& written, const std::string& shown, const Json& paper, Table& table) {
    if (written.items.empty())
      problems_.add(written, shown + ".rows", "found an empty list, expected at least one row");
    for (std::size_t i = 0; i < written.items.size(); ++i) {
      const SourceValue& item = written.items[i];
      const std::string key = shown + ".rows[" + std::to_string(i) + "]";
      TableRowSettings row;
      if (item.scalar.is_string()) {
        row.name = item.scalar;
        const auto names = labels("name");
        if (std::find(names.begin(), names.end(), row.name) != names.end())
          row.where = Condition{.values = {{"name", row.name}}, .written = item};
        else if (!paper.is_object() || !paper.contains(row.name))
          problems_.add(item, key,
                        "found " + in_quotes(row.name) +
                            ", expected the name of a point in `include:` or of a row in `paper:`" +
                            did_you_mean(row.name, names));
      } else {
        const Json entry = resolve(Schema::record({{"name", Schema::text(std::nullopt)},
                                                   {"where", Schema::map(Schema::any(std::nullopt), Json())},
                                                   {"note", Schema::text("")}}),
                                   item, key, problems_);
        if (!entry.is_object() || !entry.contains("name")) continue;
        row.name = entry.at("name");
        row.note = entry.at("note");
        if (const SourceValue* where = item.find("where"); where != nullptr && !where->is_absent())
          row.where = read_condition(*where, key + ".where");
      }
      for (const auto& other : table.named_rows)
        if (other.name == row.name)
          problems_.add(item, key, "found the row " + in_quotes(row.name) + " twice, expected names that differ");
      table.named_rows.push_back(std::move(row));
    }
  }

  void read_paper(const SourceValue& written, const std::string& shown, Table& table) {
    if (written.kind != SourceValue::Kind::map) {
      problems_.add(written, shown, "found " + describe(written) + ", expected {ROW: {COLUMN: [a value per metric]}}");
      return;
    }
    std::vector<std::string> rows = labels(table.rows);
    for (const auto& row : table.named_rows) rows.push_back(row.name);
    for (const auto& row : written.fields) {
      const std::string key = shown + "." + row.name;
      if (std::find(rows.begin(), rows.end(), row.name) == rows.end())
        problems_.add(row.place(), key,
                      "found no such row, expected one of the table's" + did_you_mean(row.name, rows));
      if (table.columns.empty()) {
        read_paper_cell(row.value, key, table, row.name, "");
        continue;
      }
      if (row.value.kind != SourceValue::Kind::map) {
        problems_.add(row.value, key, "found " + describe(row.value) + ", expected {COLUMN: [a value per metric]}");
        continue;
      }
      const auto columns = labels(table.columns);
      for (const auto& column : row.value.fields) {
        if (std::find(columns.begin(), columns.end(), column.name) == columns.end())
          problems_.add(column.place(), key + "." + column.name,
                        "found no such column, expected one of the table's" + did_you_mean(column.name, columns));
        read_paper_cell(column.value, key + "." + column.name, table, row.name, column.name);
      }
    }
  }

  void read_paper_cell(const SourceValue& written, const std::string& shown, Table& table, const std::string& row,
                       const std::string& column) {
    const Json values = to_json(written);
    const bool sound = values.is_array() && values.size() == table.metrics.size() &&
                       std::all_of(values.begin(), values.end(), [](const Json& value) {
                         return value.is_null() || (value.is_number() && value >= 0 && value <= 100);
                       });
    if (!sound)
      problems_.add(written, shown,
                    "found " + describe(written) + ", expected " + std::to_string(table.metrics.size()) +
                        " values in per cent, one per metric (null: the paper has none)");
    else
      table.paper[row][column] = values.get<std::vector<Json>>();
  }

  Json resolved() const {
    Json json = resolved_;
    json.erase("base");  // its settings stand here now
    json["folds"] = Json::array();
    std::map<std::string, std::string> role_of;
    for (const auto& [role, dataset] : experiment_.data) role_of[dataset] = role;
    for (const auto& fold : experiment_.folds) {
      Json train = Json::array();
      for (const auto& dataset : fold.train) train.push_back(role_of[dataset]);
      if (train.size() == 1) train = train[0];
      json["folds"].push_back({{"name", fold.name}, {"train", train}, {"test", role_of[fold.test]}});
    }
    json["exclude"] = Json::array();
    for (const auto& condition : experiment_.exclude)
      if (!condition.values.empty()) json["exclude"].push_back(condition.values);
    json["search"] = resolved_search_;
    json["tables"] = Json::array();
    for (const auto& table : experiment_.tables) {
      json["tables"].push_back(to_json(table));
      json["tables"].back().erase("experiment");
      json["tables"].back().erase("experiment_note");
    }
    return json;
  }

  Experiment& experiment_;
  const SourceValue& source_;
  Problems problems_;
  Schema schema_;
  Json resolved_;
  Json resolved_search_;
  std::vector<std::string> known_keys_;
  std::vector<std::string> roles_;
  std::map<std::string, std::string> varied_in_;     // key -> where ("axes.KEY", "seeds")
  std::map<std::string, std::vector<Json>> values_;  // of what varies
};

std::string canonical_path(const fs::path& path) {
  std::error_code error;
  const fs::path found = fs::weakly_canonical(path, error);
  return error ? path.string() : found.string();
}

// Follows `base:` and `include:`; both are relative to the file that names them.
class Loader {
 public:
  explicit Loader(const LoadOptions& options) : options_(options) {}

  Experiment load(const fs::path& path) {
    open_.push_back(canonical_path(path));
    Experiment experiment;
    experiment.path = path.string();
    experiment.files = {path.string()};
    experiment.source = read_yaml(path);
    require_map(experiment.source, experiment.path, "an experiment");
    const std::vector<fs::path> files = included_files(experiment);
    std::vector<SourceValue> base_excludes;
    const bool own_trials = files.empty() || experiment.source.find("folds") != nullptr ||
                            experiment.source.find("base") != nullptr ||
                            files.size() < experiment.source.find("include")->items.size();
    if (own_trials) add_bases(experiment, base_excludes);
    Reader reader(experiment);
    reader.read(own_trials);
    if (!base_excludes.empty()) reader.read_base_excludes(base_excludes);
    for (const auto& file : files) include(experiment, file);
    open_.pop_back();
    return experiment;
  }

 private:
  // The text items of `include:`.
  std::vector<fs::path> included_files(const Experiment& experiment) const {
    std::vector<fs::path> files;
    const SourceValue* include = experiment.source.find("include");
    if (include == nullptr) return files;
    Problems problems(experiment.path);
    for (std::size_t i = 0; i < include->items.size(); ++i) {
      const SourceValue& item = include->items[i];
      if (!item.scalar.is_string()) continue;
      const std::string key = "include[" + std::to_string(i) + "]";
      const fs::path file = fs::path(experiment.path).parent_path() / item.scalar.get<std::string>();
      std::error_code error;
      if (!fs::is_regular_file(file, error))
        problems.add(item, key,
                     "found " + describe(item) + ", expected an experiment file; " + file.string() + " is none");
      else if (std::find(open_.begin(), open_.end(), canonical_path(file)) != open_.end())
        problems.add(item, key, "found " + describe(item) + ", which includes this file again, expected no cycle");
      else
        files.push_back(file);
    }
    problems.throw_if_any();
    return files;
  }

  void include(Experiment& experiment, const fs::path& file) {
    if (!seen_.insert(canonical_path(file)).second) return;
    Experiment part = load(file);
    const auto check = [&](const Experiment& one) {
      if (!names_.emplace(one.name, one.path).second || one.name == experiment.name)
        throw UsageError("settings: " + one.path + ": name", "found " + in_quotes(one.name) +
                                                                 ", which another experiment of " + experiment.path +
                                                                 " has too, expected names that differ");
    };
    check(part);
    std::vector<Experiment> nested = std::move(part.included);
    part.included.clear();
    experiment.included.push_back(std::move(part));
    for (auto& one : nested) experiment.included.push_back(std::move(one));
  }

  void add_bases(Experiment& experiment, std::vector<SourceValue>& excludes) {
    std::vector<std::string> chain = {canonical_path(experiment.path)};
    fs::path next = options_.base;
    if (next.empty()) next = base_of(experiment.source, experiment.path, experiment.files);
    while (!next.empty()) {
      if (std::find(chain.begin(), chain.end(), canonical_path(next)) != chain.end())
        throw UsageError("settings: " + experiment.files.back() + ": base",
                         "found " + in_quotes(next.string()) + ", which builds on this file, expected no cycle");
      chain.push_back(canonical_path(next));
      const int index = static_cast<int>(experiment.files.size());
      SourceValue base = read_yaml(next, index);
      experiment.files.push_back(next.string());
      check_base(base, experiment.files);
      next = base_of(base, next, experiment.files);
      if (const SourceValue* exclude = base.find("exclude")) excludes.push_back(*exclude);
      base.erase("exclude");
      base.erase("base");
      experiment.source = merged(base, experiment.source);
    }
  }

  static fs::path base_of(const SourceValue& source, const fs::path& path, const std::vector<std::string>& files) {
    const SourceValue* base = source.find("base");
    if (base == nullptr || base->is_absent()) return {};
    if (base->scalar.is_string()) return path.parent_path() / base->scalar.get<std::string>();
    Problems problems(files);
    problems.add(*base, "base", "found " + describe(*base) + ", expected the path of a file");
    problems.throw_if_any();
    return {};
  }

  static void check_base(const SourceValue& base, const std::vector<std::string>& files) {
    require_map(base, files.back(), "a base");
    Problems problems(files);
    std::string expected;
    for (const auto& key : base_keys) expected += (expected.empty() ? "" : ", ") + key;
    for (const auto& field : base.fields)
      if (std::find(base_keys.begin(), base_keys.end(), field.name) == base_keys.end())
        problems.add(
            field.place(), field.name,
            "found an unknown key of a base, expected one of " + expected + did_you_mean(field.name, base_keys));
    problems.throw_if_any();
  }

  const LoadOptions& options_;
  std::vector<std::string> open_;  // the files being read, outermost first
  std::set<std::string> seen_;
  std::map<std::string, std::string> names_;
};

// The grid without folds and what `exclude` takes from it; refused when it is too large.
struct GridSize {
  std::size_t product = 0;  // points of the groups' product
  std::size_t points = 0;   // with the extra ones
  std::size_t repeats = 1;
};

GridSize grid_size(const Experiment& experiment) {
  const auto bounded = [&](std::size_t trials) {
    if (trials <= most_trials) return trials;
    throw UsageError("settings: " + experiment.path + ": axes",
                     "found more than " + std::to_string(most_trials) + " trials, expected at most that many");
  };
  GridSize size;
  size.product = experiment.groups.empty() && !experiment.points.empty() ? 0 : 1;
  for (const auto& group : experiment.groups) size.product = bounded(size.product * group.values.size());
  size.points = bounded(size.product + experiment.points.size());
  for (const auto& group : experiment.repeats) size.repeats = bounded(size.repeats * group.values.size());
  bounded(size.points * size.repeats);
  bounded(size.points * size.repeats * experiment.folds.size());
  return size;
}

// Resolves each section once for each set of values that its keys take.
class Expansion {
 public:
  explicit Expansion(const Experiment& experiment)
      : experiment_(experiment),
        size_(grid_size(experiment)),
        keys_(experiment.varied_keys()),
        matched_(experiment.exclude.size(), false) {
    for (const auto& key : keys_) section_of_key_.push_back(section_of(key));
    const Schema schemas[] = {settings_schema(Profile::paper), settings_schema(Profile::filo_release)};
    for (std::size_t i = 0; i < sections.size(); ++i) {
      model_schemas_[i == 0 ? 0 : i + 1] = schemas[0].fields[i].schema;
      if (i == 0) model_schemas_[1] = schemas[1].fields[i].schema;
      SourceValue empty{.kind = SourceValue::Kind::map, .line = experiment.source.line};
      const SourceValue* written = experiment.source.find(sections[i]);
      bases_[i] = written == nullptr || written->is_absent() ? empty : *written;
    }
  }

  void run(const std::function<void(const Variant&)>& use) {
    collect_unnamed_points();
    bool any = false;
    for (std::size_t point = 0; point < size_.points; ++point)
      for (std::size_t repeat = 0; repeat < size_.repeats; ++repeat) {
        const Variant variant = make(point, repeat);
        if (variant.folds.empty()) continue;
        any = true;
        use(variant);
      }
    for (std::size_t i = 0; i < matched_.size(); ++i)
      if (!matched_[i] && !experiment_.exclude[i].may_match_nothing) complain_of_exclude(i);
    if (!any)
      throw UsageError("settings: " + experiment_.path + ": exclude",
                       "found nothing left of the grid, expected a trial");
  }

 private:
  struct Section {
    std::size_t number = 0;
    Json resolved;
    ExperimentSettings settings;  // of this section only
  };

  // Which assignment a point takes from each source of values: (source, index), outermost first.
  std::vector<const PointValues*> assignments(std::size_t point, std::size_t repeat) const {
    std::vector<const PointValues*> chosen;
    const auto choose = [&](const std::vector<AxisGroup>& groups, std::size_t rest) {
      const std::size_t first = chosen.size();
      for (auto group = groups.rbegin(); group != groups.rend(); ++group) {
        chosen.push_back(&group->values[rest % group->values.size()]);
        rest /= group->values.size();
      }
      std::reverse(chosen.begin() + static_cast<std::ptrdiff_t>(first), chosen.end());
    };
    if (point < size_.product)
      choose(experiment_.groups, point);
    else
      chosen.push_back(&experiment_.points[point - size_.product].values);
    choose(experiment_.repeats, repeat);
    return chosen;
  }

  Variant make(std::size_t point, std::size_t repeat) {
    Variant variant;
    const auto chosen = assignments(point, repeat);
    std::array<const Section*, 4> resolved{};
    for (std::size_t i = 0; i < sections.size(); ++i) {
      resolved[i] = &section(i, chosen);
      variant.sections[i] = resolved[i]->number;
    }
    variant.settings = {resolved[0]->settings.model, resolved[1]->settings.train, resolved[2]->settings.evaluate,
                        resolved[3]->settings.resources};
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      const std::string inside = keys_[i].substr(sections[section_of_key_[i]].size() + 1);
      variant.axis_values[keys_[i]] = *find_dotted(resolved[section_of_key_[i]]->resolved, inside);
    }
    if (point < size_.product) {
      if (!unnamed_points_.empty() && repeat == 0) refuse_twice(variant.axis_values);
    } else if (const auto& name = experiment_.points[point - size_.product].name; !name.empty()) {
      variant.axis_values["name"] = name;
    }
    const std::size_t seeds = seeds_repeats();
    variant.grid_point = point * seeds + repeat % seeds;
    for (std::size_t i = 0; i < experiment_.folds.size(); ++i)
      if (!excluded(experiment_.folds[i].name, variant.axis_values)) variant.folds.push_back(i);
    return variant;
  }

  std::size_t seeds_repeats() const {
    const std::size_t searches = experiment_.search ? experiment_.repeats.front().values.size() : 1;
    return size_.repeats / searches;
  }

  const Section& section(std::size_t index, const std::vector<const PointValues*>& chosen) {
    std::string signature;
    for (const PointValues* assignment : chosen)
      for (const auto& [key, value] : *assignment)
        if (section_of(key) == index)
          signature += key + "@" + std::to_string(reinterpret_cast<std::uintptr_t>(&value)) + " ";
    auto& known = known_[index];
    if (const auto found = known.find(signature); found != known.end()) return found->second;
    SourceValue source = bases_[index];
    for (const PointValues* assignment : chosen)
      for (const auto& [key, value] : *assignment)
        if (section_of(key) == index) source.set_dotted(key.substr(sections[index].size() + 1), value);
    Section made{.number = known.size(), .resolved = {}, .settings = {}};
    Problems problems(experiment_.files);
    const bool release = index == 0 && profile_of(&source) == Profile::filo_release;
    const Schema& schema = model_schemas_[index == 0 ? (release ? 1 : 0) : index + 1];
    made.resolved = resolve(schema, source, sections[index], problems);
    problems.throw_if_any();
    if (index == 0) made.settings.model = model_settings_of(made.resolved);
    if (index == 1) made.settings.train = train_settings_of(made.resolved);
    if (index == 2) made.settings.evaluate = evaluate_settings_of(made.resolved);
    if (index == 3) made.settings.resources = resource_settings_of(made.resolved);
    return known.emplace(signature, std::move(made)).first->second;
  }

  bool excluded(const std::string& fold, const std::map<std::string, Json>& axis_values) {
    bool is_excluded = false;
    for (std::size_t i = 0; i < experiment_.exclude.size(); ++i)
      if (experiment_.exclude[i].matches(fold, axis_values)) is_excluded = matched_[i] = true;
    return is_excluded;
  }

  void complain_of_exclude(std::size_t index) const {
    Problems problems(experiment_.files);
    problems.add(experiment_.exclude[index].written, "exclude[" + std::to_string(index) + "]",
                 "found a condition that no trial meets, expected one that leaves out something");
    problems.throw_if_any();
  }

  // A point without a name that the product has too was meant to be another one.
  void collect_unnamed_points() {
    if (size_.product == 0) return;
    for (std::size_t i = 0; i < experiment_.points.size(); ++i)
      if (experiment_.points[i].name.empty())
        unnamed_points_.emplace(Json(make(size_.product + i, 0).axis_values).dump(), i);
  }

  void refuse_twice(const std::map<std::string, Json>& axis_values) const {
    const auto found = unnamed_points_.find(Json(axis_values).dump());
    if (found == unnamed_points_.end()) return;
    Problems problems(experiment_.files);
    problems.add(experiment_.points[found->second].written, "include",
                 "found a point that the axes have too, expected one beside the grid");
    problems.throw_if_any();
  }

  const Experiment& experiment_;
  const GridSize size_;
  const std::vector<std::string> keys_;
  std::vector<std::size_t> section_of_key_;
  std::array<Schema, 5> model_schemas_;  // model of either profile, train, evaluate, resources
  std::array<SourceValue, 4> bases_;
  std::array<std::unordered_map<std::string, Section>, 4> known_;
  std::vector<bool> matched_;
  std::map<std::string, std::size_t> unnamed_points_;
};

std::string kind_name(SearchDimension::Kind kind) {
  switch (kind) {
    case SearchDimension::Kind::uniform:
      return "uniform";
    case SearchDimension::Kind::log_uniform:
      return "log_uniform";
    case SearchDimension::Kind::integer:
      return "integer";
    case SearchDimension::Kind::choice:
      return "choice";
  }
  return "";
}

// Six digits: as many as anybody reads, and so few that no two mathematics libraries differ in them.
double rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return std::stod(text);
}

}  // namespace

bool Condition::matches(const std::string& fold, const std::map<std::string, Json>& axis_values) const {
  return std::all_of(values.begin(), values.end(), [&](const auto& condition) {
    if (condition.first == "fold") return condition.second == fold;
    const auto found = axis_values.find(condition.first);
    return found != axis_values.end() && found->second == condition.second;
  });
}

std::vector<std::string> Experiment::varied_keys() const {
  std::vector<std::string> keys;
  const auto add = [&](const std::string& key) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  };
  for (const auto& group : groups)
    for (const auto& key : group.keys) add(key);
  for (const auto& point : points)
    for (const auto& [key, value] : point.values) add(key);
  for (const auto& group : repeats)
    for (const auto& key : group.keys) add(key);
  return keys;
}

std::string Experiment::place(const std::string& dotted_key) const {
  const SourceValue* written = source.find_dotted(dotted_key);
  const auto& file = files.at(static_cast<std::size_t>(written == nullptr ? 0 : written->file));
  return "settings: " + file + (written == nullptr ? "" : ":" + std::to_string(written->line)) + ": " + dotted_key;
}

Experiment load_experiment(const std::string& yaml_path, const LoadOptions& options) {
  Experiment experiment = Loader(options).load(yaml_path);
  if (experiment.has_own_trials()) grid_size(experiment);
  for (const auto& part : experiment.included)
    if (part.has_own_trials()) grid_size(part);
  return experiment;
}

void for_each_variant(const Experiment& experiment, const std::function<void(const Variant&)>& use) {
  if (experiment.has_own_trials()) Expansion(experiment).run(use);
}

std::vector<Variant> expand(const Experiment& experiment) {
  std::vector<Variant> variants;
  for_each_variant(experiment, [&](const Variant& variant) { variants.push_back(variant); });
  return variants;
}

std::vector<PointValues> search_draws(const SearchSettings& search) {
  std::vector<PointValues> draws(static_cast<std::size_t>(search.max_trials));
  for (const auto& dimension : search.space)
    for (std::size_t draw = 0; draw < draws.size(); ++draw) {
      Random random(search.seed, "search " + dimension.key, draw);
      SourceValue value;
      switch (dimension.kind) {
        case SearchDimension::Kind::uniform:
          value.scalar = rounded(random.uniform(dimension.low, dimension.high));
          break;
        case SearchDimension::Kind::log_uniform:
          value.scalar = rounded(std::exp(random.uniform(std::log(dimension.low), std::log(dimension.high))));
          break;
        case SearchDimension::Kind::integer:
          value.scalar =
              static_cast<std::int64_t>(dimension.low) +
              static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(dimension.high - dimension.low) + 1));
          break;
        case SearchDimension::Kind::choice:
          value = dimension.choices[random.below(dimension.choices.size())];
          break;
      }
      draws[draw].emplace_back(dimension.key, std::move(value));
    }
  return draws;
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

Json to_json(const Table& table) {
  Json json = {{"experiment", table.experiment},
               {"title", table.title},
               {"rows", table.rows},
               {"columns", table.columns},
               {"metrics", table.metrics},
               {"note", table.note},
               {"experiment_note", table.experiment_note}};
  if (!table.named_rows.empty()) json["rows"] = Json::array();
  for (const auto& row : table.named_rows) {
    Json entry = {{"name", row.name}, {"note", row.note}};
    if (row.where) entry["where"] = row.where->values;
    json["rows"].push_back(entry);
  }
  json["paper"] = Json::object();
  for (const auto& [row, columns] : table.paper) {
    if (table.columns.empty())
      json["paper"][row] = columns.begin()->second;
    else
      json["paper"][row] = columns;
  }
  return json;
}

Table table_from_json(const Json& json) {
  Table table{.experiment = json.at("experiment"),
              .title = json.at("title"),
              .rows = "",
              .named_rows = {},
              .columns = json.at("columns"),
              .metrics = json.at("metrics"),
              .paper = {},
              .note = json.at("note"),
              .experiment_note = json.at("experiment_note")};
  if (json.at("rows").is_string()) table.rows = json.at("rows");
  if (json.at("rows").is_array())
    for (const auto& entry : json.at("rows")) {
      TableRowSettings row{.name = entry.at("name"), .where = {}, .note = entry.at("note")};
      if (entry.contains("where"))
        row.where = Condition{.values = entry.at("where").get<std::map<std::string, Json>>()};
      table.named_rows.push_back(std::move(row));
    }
  for (const auto& [row, columns] : json.at("paper").items()) {
    if (columns.is_array()) {
      table.paper[row][""] = columns.get<std::vector<Json>>();
      continue;
    }
    for (const auto& [column, values] : columns.items()) table.paper[row][column] = values.get<std::vector<Json>>();
  }
  return table;
}

Json to_json(const SearchSettings& search) {
  Json json = {
      {"method", search.method == SearchMethod::asha ? "asha" : "random"},
      {"space", Json::array()},
      {"metric", search.metric},
      {"mode", search.maximize ? "max" : "min"},
      {"max_trials", search.max_trials},
      {"max_concurrent", search.max_concurrent},
      {"seed", search.seed},
      {"asha", {{"reduction", search.reduction}, {"min", search.min}, {"max", search.max}, {"unit", search.unit}}}};
  for (const auto& dimension : search.space) {
    Json choices = Json::array();
    for (const auto& choice : dimension.choices) choices.push_back(to_json(choice));
    json["space"].push_back({{"key", dimension.key},
                             {"kind", kind_name(dimension.kind)},
                             {"low", dimension.low},
                             {"high", dimension.high},
                             {"choices", choices}});
  }
  return json;
}

SearchSettings search_from_json(const Json& json) {
  SearchSettings search;
  search.method = json.at("method") == "asha" ? SearchMethod::asha : SearchMethod::random;
  search.metric = json.at("metric");
  search.maximize = json.at("mode") == "max";
  search.max_trials = json.at("max_trials");
  search.max_concurrent = json.at("max_concurrent");
  search.seed = json.at("seed");
  const Json& asha = json.at("asha");
  search.reduction = asha.at("reduction");
  search.min = asha.at("min");
  search.max = asha.at("max");
  search.unit = asha.at("unit");
  for (const auto& entry : json.at("space")) {
    SearchDimension dimension{.key = entry.at("key"), .low = entry.at("low"), .high = entry.at("high"), .choices = {}};
    for (const auto kind : {SearchDimension::Kind::uniform, SearchDimension::Kind::log_uniform,
                            SearchDimension::Kind::integer, SearchDimension::Kind::choice})
      if (entry.at("kind") == kind_name(kind)) dimension.kind = kind;
    for (const auto& choice : entry.at("choices")) dimension.choices.push_back(source_value(choice));
    search.space.push_back(std::move(dimension));
  }
  return search;
}

}  // namespace filo
