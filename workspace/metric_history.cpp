#include "workspace/metric_history.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace filo {
namespace {

constexpr std::size_t most_points = 1'000'000;

// Members of `step` and `epoch` events that say where, not what.
bool is_bookkeeping(const std::string& name) {
  static const std::array<const char*, 8> names = {"seq",   "time",   "step",       "steps",
                                                   "epoch", "epochs", "epoch_step", "attempt"};
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The step or epoch that such an event is of; unset for other events.
std::optional<std::int64_t> place_of(const Json& event, const std::string& unit) {
  if (text_of(event, "event") != unit) return std::nullopt;
  const auto found = event.find(unit);
  if (found == event.end() || !found->is_number_integer()) return std::nullopt;
  return found->get<std::int64_t>();
}

std::optional<double> finite(const Json& told) {
  if (!told.is_number() || !std::isfinite(told.get<double>())) return std::nullopt;
  return told.get<double>();
}

// The rule for what is told twice.
void merge(MetricPoints& points, std::int64_t at, const Json& event, std::optional<double> value) {
  const auto known = points.find(at);
  if (known != points.end())
    known->second.value = value;
  else if (points.size() < most_points)
    points.emplace(at, MetricPoint{.time = number_of(event, "time"), .first_value = value, .value = value});
}

template <typename Use>
void each_event(const Workspace& workspace, const std::string& key, const Use& use) {
  const int newest = workspace.newest_attempt(key);
  for (int attempt = 1; attempt <= newest; ++attempt) {
    EventReader reader(workspace.events_file(key, attempt), attempt);
    constexpr std::size_t at_once = 1 << 20;
    for (auto events = reader.read(at_once); !events.empty(); events = reader.read(at_once))
      for (const Json& event : events) use(event);
  }
}

}  // namespace

std::vector<ToldNumber> told_numbers(const Json& event) {
  std::vector<ToldNumber> told;
  const auto add = [&](const std::string& unit, const std::string& phase, const std::string& name, const Json& value) {
    // null: a number that JSON cannot write
    if (value.is_number() || value.is_null())
      told.push_back({.unit = unit, .phase = phase, .name = name, .at = event[unit], .value = finite(value)});
  };
  for (const char* unit : {"step", "epoch"}) {
    if (!place_of(event, unit)) continue;
    for (const auto& [name, value] : event.items()) {
      if (is_bookkeeping(name)) continue;
      if (value.is_object())
        for (const auto& [part, number] : value.items()) add(unit, text_of(event, "phase"), name + "." + part, number);
      else
        add(unit, text_of(event, "phase"), name, value);
    }
  }
  // A training that evaluates itself on the way: one point each time.
  if (text_of(event, "event") == "metrics" && event.contains("step") && event["step"].is_number_integer())
    for (const auto& [name, value] : event.items())
      if (!is_bookkeeping(name)) add("step", "metrics", name, value);
  return told;
}

void MetricHistory::add(const Json& event) {
  for (const auto& one : told_numbers(event)) {
    const auto [known, fresh] = places_.try_emplace({one.unit, one.phase, one.name}, series_.size());
    if (fresh) series_.push_back({.unit = one.unit, .phase = one.phase, .name = one.name, .points = {}});
    merge(series_[known->second].points, one.at, event, one.value);
  }
}

MetricHistory metric_history(const Workspace& workspace, const std::string& key) {
  MetricHistory history;
  each_event(workspace, key, [&](const Json& event) { history.add(event); });
  return history;
}

MetricPoints metric_points(const Workspace& workspace, const std::string& key, const std::string& unit,
                           const std::string& phase, const std::string& name) {
  MetricPoints points;
  each_event(workspace, key, [&](const Json& event) {
    const auto at = place_of(event, unit);
    if (at && text_of(event, "phase") == phase) merge(points, *at, event, finite(event.value(name, Json())));
  });
  return points;
}

}  // namespace filo
