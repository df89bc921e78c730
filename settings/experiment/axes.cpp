#include "settings/experiment/axes.hpp"

#include <algorithm>
#include <set>

#include "base/text.hpp"
#include "settings/schema.hpp"

namespace filo {
namespace {

std::optional<AxisGroup> read_zip(const SourceValue& experiment, AxisKeys& keys, Problems& problems) {
  const SourceValue* written = experiment.find("zip");
  if (written == nullptr || written->fields.empty()) return std::nullopt;
  AxisGroup group;
  group.values.resize(written->fields[0].value.items.size());
  for (const auto& field : written->fields) {
    const std::string shown = "zip." + field.name;
    if (!keys.claim_setting(field, shown, problems)) continue;
    const auto& values = field.value.items;
    if (values.size() != group.values.size()) {
      problems.add(field.place(), shown,
                   "found " + std::to_string(values.size()) + " values, expected " +
                       std::to_string(group.values.size()) + ", as many as " + written->fields[0].name +
                       " has: they vary together");
      continue;
    }
    group.keys.push_back(field.name);
    for (std::size_t i = 0; i < values.size(); ++i) group.values[i].emplace_back(field.name, values[i]);
  }
  return group;
}

ExtraPoint read_point(const SourceValue& written, const std::string& shown, const AxisKeys& keys, Problems& problems) {
  ExtraPoint point{.name = "", .values = {}, .written = written};
  for (const auto& field : written.fields) {
    if (field.name != "name") {
      if (keys.is_setting(field.name, field.place(), shown + "." + field.name, problems))
        point.values.emplace_back(field.name, field.value);
    } else if (!field.value.scalar.is_string() || field.value.scalar == "") {
      problems.add(field.value, shown + ".name", "found " + describe(field.value) + ", expected text");
    } else {
      point.name = field.value.scalar;
    }
  }
  return point;
}

Schema seed_list() { return Schema::list(Schema::integer(std::nullopt, 0, 1e18), Json::array()); }

AxisGroup read_seed_group(const SourceValue& seeds, const std::string& key, const std::string& shown,
                          const std::vector<ExtraPoint>& points, Problems& problems) {
  each_value_once(seeds.items, shown, problems);
  AxisGroup group{.keys = {key}, .values = {}};
  for (const auto& seed : seeds.items) group.values.push_back({{key, seed}});
  for (std::size_t i = 0; i < points.size(); ++i)
    for (const auto& [set, value] : points[i].values)
      if (set == key)
        problems.add(value, "include[" + std::to_string(i) + "]." + key,
                     "found both " + shown + " and " + key + " in a point, expected one of them");
  return group;
}

}  // namespace

bool AxisKeys::is_setting(const std::string& key, const SourceValue& place, const std::string& shown,
                          Problems& problems) const {
  if (std::find(settings_.begin(), settings_.end(), key) != settings_.end()) return true;
  problems.add(place, shown,
               "found an unknown axis, expected the dotted key of a setting" + did_you_mean(key, settings_));
  return false;
}

bool AxisKeys::claim(const std::string& key, const SourceValue& place, const std::string& shown, Problems& problems) {
  const auto [known, is_new] = varies_in_.emplace(key, shown);
  if (is_new) return true;
  problems.add(place, shown, "found " + key + " in " + known->second + " too, expected it in one of them");
  return false;
}

bool AxisKeys::claim_setting(const SourceValue::Field& field, const std::string& shown, Problems& problems) {
  return is_setting(field.name, field.place(), shown, problems) && claim(field.name, field.place(), shown, problems);
}

std::vector<AxisGroup> read_axes(const SourceValue& experiment, AxisKeys& keys, Problems& problems) {
  std::vector<AxisGroup> groups;
  if (const SourceValue* written = experiment.find("axes"))
    for (const auto& field : written->fields) {
      const std::string shown = "axes." + field.name;
      if (!keys.claim_setting(field, shown, problems)) continue;
      each_value_once(field.value.items, shown, problems);
      AxisGroup group{.keys = {field.name}, .values = {}};
      for (const auto& value : field.value.items) group.values.push_back({{field.name, value}});
      groups.push_back(std::move(group));
    }
  if (auto zip = read_zip(experiment, keys, problems)) groups.push_back(std::move(*zip));
  return groups;
}

std::vector<ExtraPoint> read_points(const SourceValue& experiment, const AxisKeys& keys, Problems& problems) {
  std::vector<ExtraPoint> points;
  const SourceValue* written = experiment.find("include");
  if (written == nullptr) return points;
  std::set<std::string> names;
  for (std::size_t i = 0; i < written->items.size(); ++i) {
    const SourceValue& item = written->items[i];
    const std::string shown = "include[" + std::to_string(i) + "]";
    if (item.kind == SourceValue::Kind::scalar && item.scalar.is_string()) continue;  // a file
    if (item.kind != SourceValue::Kind::map) {
      problems.add(item, shown,
                   "found " + describe(item) + ", expected a point (a map of dotted keys) or an experiment file");
      continue;
    }
    ExtraPoint point = read_point(item, shown, keys, problems);
    if (!point.name.empty() && !names.insert(point.name).second)
      problems.add(item, shown, "found the name " + in_quotes(point.name) + " twice, expected names that differ");
    points.push_back(std::move(point));
  }
  return points;
}

std::vector<AxisGroup> read_seeds(const SourceValue& experiment, const std::vector<ExtraPoint>& points, AxisKeys& keys,
                                  Problems& problems) {
  const SourceValue* written = experiment.find("seeds");
  if (written == nullptr || written->is_absent()) return {};
  std::vector<AxisGroup> groups;
  const auto add = [&](const SourceValue& seeds, const std::string& key, const std::string& shown) {
    if (seeds.items.empty() || !keys.claim(key, seeds, shown, problems)) return;
    groups.push_back(read_seed_group(seeds, key, shown, points, problems));
  };
  if (written->kind == SourceValue::Kind::list) {
    resolve(seed_list(), *written, "seeds", problems);
    add(*written, "train.seed", "seeds");
    return groups;
  }
  if (written->kind != SourceValue::Kind::map) {
    problems.add(*written, "seeds",
                 "found " + describe(*written) + ", expected a list of seeds or {train: [...], evaluate: [...]}");
    return groups;
  }
  resolve(Schema::record({{"train", seed_list()}, {"evaluate", seed_list()}}), *written, "seeds", problems);
  for (const std::string of : {"train", "evaluate"})
    if (const SourceValue* seeds = written->find(of)) add(*seeds, of + ".seed", "seeds." + of);
  return groups;
}

void each_value_once(const std::vector<SourceValue>& values, const std::string& shown, Problems& problems) {
  std::set<Json> seen;  // by value: 1 and 1.0 are one
  for (const auto& value : values)
    if (!seen.insert(to_json(value)).second) {
      problems.add(value, shown, "found " + describe(value) + " twice, expected each value once");
      return;
    }
}

}  // namespace filo
