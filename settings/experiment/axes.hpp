// What varies: `axes:`, `zip:`, the points of `include:` and `seeds:`. `experiment` is the file in all of these, which
// experiment_schema() let through.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "settings/experiment/types.hpp"

namespace filo {

// The dotted keys of all settings, and where each that varies does so: a key varies in one way alone.
class AxisKeys {
 public:
  explicit AxisKeys(std::vector<std::string> settings) : settings_(std::move(settings)) {}

  // Both complain at `place`, of `shown` ("axes.model.prompts.filter"), where they return false.
  bool is_setting(const std::string& key, const SourceValue& place, const std::string& shown, Problems& problems) const;
  bool claim(const std::string& key, const SourceValue& place, const std::string& shown, Problems& problems);
  // A setting that may vary and did not yet.
  bool claim_setting(const SourceValue::Field& field, const std::string& shown, Problems& problems);

 private:
  std::vector<std::string> settings_;
  std::map<std::string, std::string> varies_in_;  // key -> "axes.KEY", "seeds"
};

std::vector<AxisGroup> read_axes(const SourceValue& experiment, AxisKeys& keys, Problems& problems);  // and zip
std::vector<ExtraPoint> read_points(const SourceValue& experiment, const AxisKeys& keys, Problems& problems);
// A list is of train.seed; {train: [...], evaluate: [...]} of either or both, whose product is run.
std::vector<AxisGroup> read_seeds(const SourceValue& experiment, const std::vector<ExtraPoint>& points, AxisKeys& keys,
                                  Problems& problems);

void each_value_once(const std::vector<SourceValue>& values, const std::string& shown, Problems& problems);

}  // namespace filo
