#include "settings/experiment/conditions.hpp"

#include <algorithm>
#include <optional>

#include "base/text.hpp"
#include "settings/experiment/schema.hpp"

namespace filo {
namespace {

constexpr std::size_t most_values_told = 1000;  // seeds by the thousand: nobody is told the nearest one

void add_once(std::vector<Json>& values, const Json& value) {
  if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
}

std::string label_of(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

// Nothing where it cannot hold.
std::optional<Condition> read_base_condition(const SourceValue& written, const std::string& shown,
                                             const VaryingValues& values, const AxisKeys& keys, const Json& resolved,
                                             Problems& problems) {
  Condition condition{.values = {}, .written = written, .may_match_nothing = true};
  for (const auto& field : written.fields) {
    const Json value = to_json(field.value);
    if (values.varies(field.name)) {
      if (!values.may_be(field.name, value)) return std::nullopt;
      condition.values[field.name] = value;
    } else if (field.name == "name") {
      return std::nullopt;
    } else if (keys.is_setting(field.name, field.place(), shown + "." + field.name, problems)) {
      if (*find_dotted(resolved, field.name) != value) return std::nullopt;
    }
  }
  return condition;
}

}  // namespace

VaryingValues::VaryingValues(const std::vector<Fold>& folds, const Grid& grid, const Json& resolved) {
  for (const auto& fold : folds) values_["fold"].emplace_back(fold.name);
  for (const auto& point : grid.points)
    if (!point.name.empty()) values_["name"].emplace_back(point.name);
  for (const auto& key : grid.varied_keys()) values_[key] = {};
  const auto add = [&](const PointValues& assignment) {
    for (const auto& [key, value] : assignment)
      if (auto& values = values_[key]; values.size() <= most_values_told) add_once(values, to_json(value));
  };
  for (const auto* groups : {&grid.groups, &grid.repeats})
    for (const auto& group : *groups)
      for (const auto& assignment : group.values) add(assignment);
  for (const auto& point : grid.points) add(point.values);
  // A point that does not set a key has the value that stands in the file.
  if (!grid.points.empty())
    for (auto& [key, values] : values_)
      if (const Json* base = find_dotted(resolved, key)) add_once(values, *base);
}

bool VaryingValues::may_be(const std::string& key, const Json& value) const {
  const auto& values = values_.at(key);
  return values.size() > most_values_told || std::find(values.begin(), values.end(), value) != values.end();
}

std::vector<std::string> VaryingValues::keys() const {
  std::vector<std::string> keys;
  for (const auto& entry : values_) keys.push_back(entry.first);
  return keys;
}

std::vector<std::string> VaryingValues::labels(const std::string& key) const {
  std::vector<std::string> texts;
  if (const auto found = values_.find(key); found != values_.end())
    for (const auto& value : found->second) texts.push_back(label_of(value));
  return texts;
}

Condition read_condition(const SourceValue& written, const std::string& shown, const VaryingValues& values,
                         Problems& problems) {
  Condition condition{.values = {}, .written = written};
  for (const auto& field : written.fields) {
    const std::string key = shown + "." + field.name;
    if (!values.varies(field.name)) {
      problems.add(field.place(), key,
                   "found what does not vary here, expected fold, name or the key of an axis" +
                       did_you_mean(field.name, values.keys()));
      continue;
    }
    const Json value = to_json(field.value);
    if (!values.may_be(field.name, value))
      problems.add(field.value, key,
                   "found " + describe(field.value) + ", expected one of its values" +
                       did_you_mean(label_of(value), values.labels(field.name)));
    condition.values[field.name] = value;
  }
  return condition;
}

std::vector<Condition> read_excludes(const SourceValue& experiment, const VaryingValues& values, Problems& problems) {
  std::vector<Condition> conditions;
  if (const SourceValue* written = experiment.find("exclude"))
    for (std::size_t i = 0; i < written->items.size(); ++i)
      conditions.push_back(read_condition(written->items[i], "exclude[" + std::to_string(i) + "]", values, problems));
  return conditions;
}

std::vector<Condition> read_base_excludes(const std::vector<SourceValue>& lists, const VaryingValues& values,
                                          const AxisKeys& keys, const Json& resolved, Problems& problems) {
  std::vector<Condition> conditions;
  for (const auto& list : lists) {
    resolve(exclude_schema(), list, "exclude", problems);
    problems.throw_if_any();
    for (std::size_t i = 0; i < list.items.size(); ++i)
      if (auto condition = read_base_condition(list.items[i], "exclude[" + std::to_string(i) + "]", values, keys,
                                               resolved, problems))
        conditions.push_back(std::move(*condition));
  }
  return conditions;
}

}  // namespace filo
