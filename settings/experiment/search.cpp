#include "settings/experiment/search.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/random.hpp"
#include "base/text.hpp"
#include "settings/enum_names.hpp"
#include "settings/experiment/experiment.hpp"
#include "settings/experiment/schema.hpp"
#include "settings/metrics.hpp"

namespace filo {
namespace {

using Kind = SearchDimension::Kind;

const EnumNames<SearchMethod> methods = {{SearchMethod::random, "random"}, {SearchMethod::asha, "asha"}};
const EnumNames<Kind> kinds = {{Kind::uniform, "uniform"},
                               {Kind::log_uniform, "log_uniform"},
                               {Kind::integer, "integer"},
                               {Kind::choice, "choice"}};

Schema search_schema() {
  const SearchSettings fallback;
  const Schema asha = Schema::record({{"reduction", Schema::integer(fallback.reduction, 2, 1000)},
                                      {"min", Schema::integer(fallback.min, 1, 1e6)},
                                      {"max", Schema::integer(fallback.max, 0, 1e6)},
                                      {"unit", Schema::choice(fallback.unit, {"epoch", "step"})}});
  return Schema::record(
      {{"method", methods.schema(fallback.method)},
       {"space", Schema::map(Schema::map(Schema::any(std::nullopt), std::nullopt, 1), std::nullopt, 1)},
       {"metric", Schema::text(fallback.metric)},
       {"mode", Schema::choice("min", {"min", "max"})},
       {"max_trials", Schema::integer(std::nullopt, 1, most_trials)},
       {"max_concurrent", Schema::integer(fallback.max_concurrent, 0, 1e6)},
       {"seed", Schema::integer(fallback.seed, 0, 1e18)},
       {"asha", asha}});
}

// All but the space, which files and plans write differently.
SearchSettings without_space(const Json& json) {
  const Json& asha = json.at("asha");
  return {.method = methods.value(json.at("method")),
          .space = {},
          .metric = json.at("metric"),
          .maximize = json.at("mode") == "max",
          .max_trials = json.at("max_trials"),
          .max_concurrent = json.at("max_concurrent"),
          .seed = json.at("seed"),
          .reduction = asha.at("reduction"),
          .min = asha.at("min"),
          .max = asha.at("max"),
          .unit = asha.at("unit")};
}

// [low, high]; false where it is none.
bool read_range(const SourceValue& value, SearchDimension& dimension) {
  if (value.kind != SourceValue::Kind::list || value.items.size() != 2) return false;
  for (const auto& end : value.items) {
    if (dimension.kind == Kind::integer ? !end.scalar.is_number_integer() : !end.scalar.is_number()) return false;
    if (!std::isfinite(end.scalar.get<double>()) || std::abs(end.scalar.get<double>()) > 1e15) return false;
  }
  dimension.low = value.items[0].scalar.get<double>();
  dimension.high = value.items[1].scalar.get<double>();
  return dimension.low < dimension.high && (dimension.kind != Kind::log_uniform || dimension.low > 0);
}

// The values of KEY: {KIND: VALUES}; false after a complaint.
bool read_values(const SourceValue& values, const std::string& shown, SearchDimension& dimension, Problems& problems) {
  if (dimension.kind == Kind::choice) {
    if (values.kind != SourceValue::Kind::list || values.items.empty()) {
      problems.add(values, shown, "found " + describe(values) + ", expected a list with at least one item");
      return false;
    }
    each_value_once(values.items, shown, problems);
    dimension.choices = values.items;
    return true;
  }
  if (read_range(values, dimension)) return true;
  const std::string number = dimension.kind == Kind::integer ? "whole number" : "number";
  problems.add(values, shown,
               "found " + describe(values) + ", expected [low, high]: two " + number + "s, low below high" +
                   (dimension.kind == Kind::log_uniform ? " and above 0" : ""));
  return false;
}

std::optional<SearchDimension> read_dimension(const SourceValue::Field& field, AxisKeys& keys, Problems& problems) {
  const std::string shown = "search.space." + field.name;
  if (!keys.claim_setting(field, shown, problems)) return std::nullopt;
  const auto names = kinds.names();
  const std::string kind = field.value.fields.empty() ? "" : field.value.fields[0].name;
  if (field.value.fields.size() != 1 || std::find(names.begin(), names.end(), kind) == names.end()) {
    problems.add(field.place(), shown,
                 "found " + describe(field.value) +
                     ", expected one of uniform, log_uniform, integer (each [low, high]) or choice: [...]" +
                     did_you_mean(kind, names));
    return std::nullopt;
  }
  SearchDimension dimension{.key = field.name, .kind = kinds.value(kind), .choices = {}};
  if (!read_values(field.value.fields[0].value, shown + "." + kind, dimension, problems)) return std::nullopt;
  return dimension;
}

// Six digits: as many as anybody reads, and so few that no two mathematics libraries differ in them.
double rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return std::stod(text);
}

SourceValue draw(const SearchDimension& dimension, Random random) {
  SourceValue value;
  switch (dimension.kind) {
    case Kind::uniform:
      value.scalar = rounded(random.uniform(dimension.low, dimension.high));
      break;
    case Kind::log_uniform:
      value.scalar = rounded(std::exp(random.uniform(std::log(dimension.low), std::log(dimension.high))));
      break;
    case Kind::integer:
      value.scalar =
          static_cast<std::int64_t>(dimension.low) +
          static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(dimension.high - dimension.low) + 1));
      break;
    case Kind::choice:
      value = dimension.choices[random.below(dimension.choices.size())];
      break;
  }
  return value;
}

}  // namespace

std::optional<SearchRead> read_search(const SourceValue& experiment, const TrainSettings& train, AxisKeys& keys,
                                      Problems& problems) {
  const SourceValue* written = experiment.find("search");
  if (written == nullptr || written->is_absent()) return std::nullopt;
  SearchRead read{.settings = {}, .resolved = resolve(search_schema(), *written, "search", problems)};
  problems.throw_if_any();
  read.settings = without_space(read.resolved);
  SearchSettings& search = read.settings;
  if (search.max == 0 && search.unit == "epoch") search.max = train.main_epochs;
  read.resolved["asha"]["max"] = search.max;
  if (is_metric(search.metric))
    problems.add(*written->find("metric"), "search.metric",
                 "found " + search.metric +
                     ", which is measured on the test data set; expected a field of training's epoch events: loss, or "
                     "validation_loss with train.validation.fraction");
  if (search.metric.starts_with("validation_") && train.validation.fraction == 0)
    problems.add(*written->find("metric"), "search.metric",
                 "found " + search.metric + " without a validation, expected train.validation.fraction above 0");
  for (const auto& field : written->find("space")->fields)
    if (auto dimension = read_dimension(field, keys, problems)) search.space.push_back(std::move(*dimension));
  return read;
}

AxisGroup draws_group(const SearchSettings& search) {
  AxisGroup group{.keys = {}, .values = search_draws(search)};
  for (const auto& dimension : search.space) group.keys.push_back(dimension.key);
  return group;
}

std::vector<PointValues> search_draws(const SearchSettings& search) {
  std::vector<PointValues> draws(static_cast<std::size_t>(search.max_trials));
  for (const auto& dimension : search.space)
    for (std::size_t i = 0; i < draws.size(); ++i)
      draws[i].emplace_back(dimension.key, draw(dimension, Random(search.seed, "search " + dimension.key, i)));
  return draws;
}

Json to_json(const SearchSettings& search) {
  Json json = {
      {"method", methods.name(search.method)},
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
                             {"kind", kinds.name(dimension.kind)},
                             {"low", dimension.low},
                             {"high", dimension.high},
                             {"choices", choices}});
  }
  return json;
}

SearchSettings search_from_json(const Json& json) {
  SearchSettings search = without_space(json);
  for (const auto& entry : json.at("space")) {
    SearchDimension dimension{.key = entry.at("key"),
                              .kind = kinds.value(entry.at("kind")),
                              .low = entry.at("low"),
                              .high = entry.at("high"),
                              .choices = {}};
    for (const auto& choice : entry.at("choices")) dimension.choices.push_back(source_value(choice));
    search.space.push_back(std::move(dimension));
  }
  return search;
}

}  // namespace filo
