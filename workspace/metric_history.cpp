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

// The rule for what is told twice.
void merge(MetricPoints& points, std::int64_t at, const Json& event, const Json& told) {
  std::optional<double> value;
  if (told.is_number() && std::isfinite(told.get<double>())) value = told.get<double>();
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

void MetricHistory::add(const Json& event) {
  for (const char* unit : {"step", "epoch"})
    if (place_of(event, unit)) add_all(event, unit);
  if (text_of(event, "event") == "metrics") add_metrics(event);
}

void MetricHistory::add_all(const Json& event, const std::string& unit) {
  const std::string phase = text_of(event, "phase");
  const std::int64_t at = event[unit];
  for (const auto& [name, value] : event.items()) {
    if (is_bookkeeping(name)) continue;
    if (value.is_object())
      for (const auto& [part, number] : value.items()) put({unit, phase, name + "." + part}, at, event, number);
    else
      put({unit, phase, name}, at, event, value);
  }
}

// A training that evaluates itself on the way: one point each time.
void MetricHistory::add_metrics(const Json& event) {
  if (!event.contains("step") || !event["step"].is_number_integer()) return;
  for (const auto& [name, value] : event.items())
    if (!is_bookkeeping(name)) put({"step", "metrics", name}, event["step"], event, value);
}

void MetricHistory::put(std::array<std::string, 3> id, std::int64_t at, const Json& event, const Json& value) {
  if (!value.is_number() && !value.is_null()) return;  // null: a number that JSON cannot write
  const auto [known, fresh] = places_.try_emplace(std::move(id), series_.size());
  if (fresh)
    series_.push_back({.unit = known->first[0], .phase = known->first[1], .name = known->first[2], .points = {}});
  merge(series_[known->second].points, at, event, value);
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
    if (at && text_of(event, "phase") == phase) merge(points, *at, event, event.value(name, Json()));
  });
  return points;
}

}  // namespace filo
