// The numbers that a training told over all its attempts, each step and epoch once, however often it was resumed. The
// rule for what was told twice stands in workspace/events.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "workspace/events.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// What was told of one number after one step or epoch. Unset: it was told, but is not a finite number.
struct MetricPoint {
  double time = 0;                    // seconds since 1970, when it was first told
  std::optional<double> first_value;  // what was told then: what a search decides by
  std::optional<double> value;        // the last told: of the parameters that went on
};
using MetricPoints = std::map<std::int64_t, MetricPoint>;  // by step or epoch

struct MetricSeries {
  std::string unit;   // "step" or "epoch"
  std::string phase;  // "main", "adapter"; "metrics" for a `metrics` event; "" where none was told
  std::string name;   // "loss", "losses.focal", "images_per_s"
  MetricPoints points;
};

// One number that an event tells after a step or epoch.
struct ToldNumber {
  std::string unit, phase, name;  // as in MetricSeries
  std::int64_t at = 0;            // the step or epoch
  std::optional<double> value;    // unset: not finite
};
// All that stand in one event; none for events of other kinds.
std::vector<ToldNumber> told_numbers(const Json& event);

// Merges events, given in their order, the older attempt's first.
class MetricHistory {
 public:
  void add(const Json& event);
  const std::vector<MetricSeries>& series() const { return series_; }  // in the order in which they were first met

 private:
  std::vector<MetricSeries> series_;
  std::map<std::array<std::string, 3>, std::size_t> places_;  // unit, phase, name -> in series_
};

// Everything the stage told. A series keeps a million points.
MetricHistory metric_history(const Workspace& workspace, const std::string& key);

// One number alone, which is quicker. Steps or epochs that told of something else only count as not a number.
MetricPoints metric_points(const Workspace& workspace, const std::string& key, const std::string& unit,
                           const std::string& phase, const std::string& name);

}  // namespace filo
